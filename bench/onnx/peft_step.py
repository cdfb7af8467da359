"""The training step of `step.bench.ts` in PyTorch + peft.

usage: peft_step.py FOLDER THREADS
FOLDER has config.json, model.safetensors and tokens.json. Prints the loss of every step and the milliseconds it
took, a JSON line each, whenever it reads a line.
"""

import json
import sys
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM

folder, threads = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(threads)
torch.manual_seed(1)

model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
linears = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"]
model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=linears))
model.train()
parameters = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.95), eps=1e-12, weight_decay=0.01)
rows = torch.tensor(json.load(open(f"{folder}/tokens.json")))
inputs, targets = rows[:, :-1], rows[:, 1:].reshape(-1)


def step() -> float:
    logits = model(inputs).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets, reduction="sum")
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


print(json.dumps({"torch": torch.__version__}), flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    loss = step()
    print(json.dumps({"loss": loss, "ms": 1000 * (time.perf_counter() - start)}), flush=True)
