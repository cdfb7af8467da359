"""What Python's peft computes from adapters that this library has saved.

  python test/python/adapter_logprobs.py < JOBS > RESULTS

JOBS is a JSON list of {model: folder, archive: .tar, batch: [{tokens, targets}]};
RESULTS the list of the log-probabilities of the targets, per datum.
"""
import json
import sys
import tarfile
import tempfile

import torch
from peft import PeftModel
from transformers import LlamaForCausalLM


@torch.no_grad()
def run(job):
    model = LlamaForCausalLM.from_pretrained(job["model"], dtype=torch.float32, attn_implementation="eager")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(job["archive"]) as archive:
            archive.extractall(folder, filter="data")
        peft = PeftModel.from_pretrained(model, folder).eval()
    result = []
    for datum in job["batch"]:
        logits = peft(input_ids=torch.tensor([datum["tokens"]]), use_cache=False).logits[0]
        targets = torch.tensor(datum["targets"])[:, None]
        result.append(torch.log_softmax(logits, -1).gather(1, targets)[:, 0].tolist())
    return result


if __name__ == "__main__":
    torch.set_num_threads(1)
    json.dump([run(job) for job in json.load(sys.stdin)], sys.stdout)
