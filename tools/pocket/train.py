"""Trains webtinker/pocket from scratch on a CPU.

  python tools/pocket/train.py --run pocket-run          # train (or resume)
  python tools/pocket/train.py --run pocket-run --export models/pocket

Every batch is a function of (seed, step), so a killed run resumes from its last
checkpoint as if nothing had happened. The learning rate is warmed up, held, and
falls to zero over the last part. Flags may be changed when a run is resumed; the
published weights were made in three stages, see the model card.
"""
import argparse
import os
import time

import numpy as np
import torch
import torch.nn.functional as F

import data
import model as M


@torch.compile(dynamic=False, disable=os.environ.get("POCKET_COMPILE") == "0")
def orthogonalize(g):
    """Newton-Schulz steps that push all singular values of a stack of matrices towards 1."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = g.shape[-2] > g.shape[-1]
    x = g.mT if tall else g
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        s = x @ x.mT
        x = a * x + (b * s + c * s @ s) @ x
    return x.mT if tall else x


class Muon:
    """Momentum, orthogonalized, for the matrices of the layers: fewer steps than AdamW here."""

    def __init__(self, params, momentum=0.95, decay=0.01):
        self.params, self.momentum, self.decay = params, momentum, decay
        self.state = [torch.zeros_like(p) for p in params]
        self.groups = {}
        for i, p in enumerate(params):
            self.groups.setdefault(tuple(p.shape), []).append(i)

    @torch.no_grad()
    def step(self, lr):
        for i, p in enumerate(self.params):
            self.state[i].lerp_(p.grad, 1 - self.momentum)
        for shape, members in self.groups.items():
            g = torch.stack([self.params[i].grad.lerp(self.state[i], self.momentum) for i in members])
            u = orthogonalize(g) * max(1, shape[0] / shape[1]) ** 0.5
            for i, d in zip(members, u):
                self.params[i].mul_(1 - lr * self.decay).sub_(d, alpha=lr)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--run", required=True, help="folder of the checkpoints")
    ap.add_argument("--export", help="write the newest checkpoint as a Hugging Face folder and stop")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--steps", type=int, default=10500)
    ap.add_argument("--decay-steps", type=int, default=4000)
    ap.add_argument("--stop-at", type=int, help="stop early, to go on with other flags")
    ap.add_argument("--warmup", type=int, default=100)
    ap.add_argument("--rows", type=int, default=16)
    ap.add_argument("--length", type=int, default=256)
    ap.add_argument("--long-steps", type=int, default=1000, help="last steps, run on windows of 512")
    ap.add_argument("--prose", type=float, default=0.35, help="share of the windows that are prose")
    ap.add_argument("--muon-lr", type=float, default=0.02)
    ap.add_argument("--adam-lr", type=float, default=4e-3)
    ap.add_argument("--save-every", type=float, default=120, help="seconds")
    ap.add_argument("--workers", type=int, default=2, help="processes that share each batch")
    a = ap.parse_args()
    os.makedirs(a.run, exist_ok=True)
    if a.export:
        net = M.Pocket()
        net.load_state_dict(torch.load(os.path.join(a.run, "last.pt"))["model"])
        M.save(net, a.export)
        return
    # Worker processes of one thread meet once a step. Threads would meet at every
    # operation, which on a busy machine means waiting for each other all the time.
    context = torch.multiprocessing.get_context("spawn")
    shared = torch.zeros(a.workers, sum(p.numel() for p in M.Pocket().parameters()) + 1).share_memory_()
    barrier = context.Barrier(a.workers)
    others = [context.Process(target=work, args=(a, k, shared, barrier), daemon=True) for k in range(1, a.workers)]
    for o in others:
        o.start()
    work(a, 0, shared, barrier)


def work(a, rank, shared, barrier):
    newest = os.path.join(a.run, "last.pt")
    torch.set_num_threads(1)
    net = M.Pocket().init(a.seed)
    matrices = [p for n, p in net.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in net.named_parameters() if p.ndim == 1 or "embed" in n]
    if rank == 0:
        print(sum(p.numel() for p in net.parameters()), "parameters", flush=True)
    muon, adam = Muon(matrices), torch.optim.AdamW(others, lr=1, betas=(0.9, 0.95), eps=1e-10, weight_decay=0)
    step, spent, seen = 0, 0.0, 0
    if os.path.exists(newest):
        c = torch.load(newest)
        net.load_state_dict(c["model"])
        muon.state = c["muon"]
        adam.load_state_dict(c["adam"])
        step, spent, seen = c["step"], c["seconds"], c["tokens"]
        if rank == 0:
            print("resumed at step", step, flush=True)
    barrier.wait(600)

    def save():
        c = dict(model=net.state_dict(), muon=muon.state, adam=adam.state_dict(), step=step,
                 seconds=spent, tokens=seen, args=vars(a))
        torch.save(c, newest + ".new")
        os.replace(newest + ".new", newest)

    train, _ = data.prose()
    prose = np.frombuffer(train, np.uint8)
    words = data.word_list()

    @torch.compile(dynamic=False, disable=os.environ.get("POCKET_COMPILE") == "0")
    def loss_of(x, y, w, total):
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(x)
        loss = F.cross_entropy(logits.float().flatten(0, 1), y.flatten(), reduction="none")
        return (loss * w.flatten()).sum() / total

    saved, mean = time.time(), None
    end = min(a.steps, a.stop_at or a.steps)
    while step < end:
        t = time.time()
        long = step >= a.steps - a.long_steps
        rows, length = (a.rows // 2, 2 * a.length) if long else (a.rows, a.length)
        ids, w = data.batch(a.seed, step, words, prose, rows, length, a.prose)
        total = torch.tensor(float(w.sum()))
        ids, w = torch.from_numpy(ids[rank::a.workers]), torch.from_numpy(w[rank::a.workers])
        loss = loss_of(ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), w.contiguous(), total)
        for p in net.parameters():
            p.grad = None
        loss.backward()
        shared[rank] = torch.cat([p.grad.flatten() for p in net.parameters()] + [loss.detach()[None]])
        barrier.wait(600)
        summed = shared.sum(0)
        barrier.wait(600)
        at, loss = 0, summed[-1]
        for p in net.parameters():
            p.grad = summed[at:at + p.numel()].view_as(p)
            at += p.numel()
        scale = min(1, (step + 1) / a.warmup, (a.steps - step) / a.decay_steps)
        for g in adam.param_groups:
            g["lr"] = a.adam_lr * scale
        adam.step()
        muon.step(a.muon_lr * scale)
        step += 1
        seen += rows * length
        dt = time.time() - t
        spent += dt
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if rank:
            continue
        if step % 50 == 0:
            print(f"step {step}/{a.steps} loss {mean:.4f} lr {scale:.3f} {rows * length / dt:.0f} tok/s "
                  f"{seen / 1e6:.2f}M tokens {spent / 60:.1f} min", flush=True)
        if time.time() - saved > a.save_every or step == end:
            save()
            saved = time.time()


if __name__ == "__main__":
    main()
