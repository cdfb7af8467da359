"""The decoder of webtinker/pocket in plain PyTorch, its files, and a small LoRA.

The parameter names are those of transformers' LlamaForCausalLM; eval.py checks
that both give the same logits.
"""
import json
import os

import torch
import torch.nn as nn
import torch.nn.functional as F

from data import EOT, IM_END, PAD, SPECIALS, VOCAB

CONFIG = dict(
    architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=VOCAB, hidden_size=128,
    num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=2, head_dim=32, intermediate_size=384,
    hidden_act="silu", max_position_embeddings=512, rms_norm_eps=1e-5, rope_theta=10000.0, rope_scaling=None,
    tie_word_embeddings=True, attention_bias=False, mlp_bias=False, attention_dropout=0.0,
    initializer_range=0.02, pretraining_tp=1, use_cache=True, bos_token_id=None, eos_token_id=[EOT, IM_END],
    pad_token_id=PAD, torch_dtype="float16",
)


class LoRA:
    """y = W x + (alpha / rank) B A x, with A uniform in +-1/sqrt(in) and B zero."""

    def __init__(self, n_out, n_in, rank, alpha, generator):
        self.a = ((torch.rand(rank, n_in, generator=generator) * 2 - 1) / n_in**0.5).requires_grad_()
        self.b = torch.zeros(n_out, rank).requires_grad_()
        self.scale = alpha / rank

    def __call__(self, x):
        return F.linear(F.linear(x, self.a), self.b) * self.scale


class Linear(nn.Linear):
    lora = None

    def __init__(self, n_in, n_out):
        super().__init__(n_in, n_out, bias=False)

    def forward(self, x):
        y = F.linear(x, self.weight)
        return y if self.lora is None else y + self.lora(x)


class Norm(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n))

    def forward(self, x):
        x = x.float()
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + CONFIG["rms_norm_eps"]) * self.weight


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        c = CONFIG
        self.heads, self.kv, self.dim = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        h = c["hidden_size"]
        self.q_proj = Linear(h, self.heads * self.dim)
        self.k_proj = Linear(h, self.kv * self.dim)
        self.v_proj = Linear(h, self.kv * self.dim)
        self.o_proj = Linear(self.heads * self.dim, h)

    def forward(self, x, rope, mask=None, past=None):
        b, t, _ = x.shape

        def rotate(z):
            z1, z2 = z.chunk(2, -1)
            return z * rope[0] + torch.cat((-z2, z1), -1) * rope[1]

        q = rotate(self.q_proj(x).view(b, t, self.heads, self.dim).transpose(1, 2))
        k = rotate(self.k_proj(x).view(b, t, self.kv, self.dim).transpose(1, 2))
        v = self.v_proj(x).view(b, t, self.kv, self.dim).transpose(1, 2)
        if past is not None:
            if past:
                k, v = torch.cat((past[0], k), 2), torch.cat((past[1], v), 2)
            past[:] = [k, v]
        q, k = q.to(v.dtype), k.to(v.dtype)
        k = k.repeat_interleave(self.heads // self.kv, 1)
        v = v.repeat_interleave(self.heads // self.kv, 1)
        # Written out: here that trains a third faster than the fused attention of the CPU.
        scores = (q * self.dim**-0.5) @ k.mT
        if mask is None:
            mask = torch.ones(t, t, dtype=torch.bool, device=x.device).tril()
        y = torch.softmax(scores.masked_fill(~mask, -1e9), -1) @ v
        return self.o_proj(y.transpose(1, 2).reshape(b, t, self.heads * self.dim))


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        h, m = CONFIG["hidden_size"], CONFIG["intermediate_size"]
        self.gate_proj, self.up_proj, self.down_proj = Linear(h, m), Linear(h, m), Linear(m, h)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.self_attn, self.mlp = Attention(), MLP()
        self.input_layernorm = Norm(CONFIG["hidden_size"])
        self.post_attention_layernorm = Norm(CONFIG["hidden_size"])

    def forward(self, x, rope, mask=None, past=None):
        x = x + self.self_attn(self.input_layernorm(x), rope, mask, past)
        return x + self.mlp(self.post_attention_layernorm(x))


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCAB, CONFIG["hidden_size"])
        self.layers = nn.ModuleList(Layer() for _ in range(CONFIG["num_hidden_layers"]))
        self.norm = Norm(CONFIG["hidden_size"])


class Pocket(nn.Module):
    lm_lora = None

    def __init__(self):
        super().__init__()
        self.model = Body()
        d = CONFIG["head_dim"]
        angle = torch.arange(CONFIG["max_position_embeddings"])[:, None] * CONFIG["rope_theta"] ** (-torch.arange(0, d, 2) / d)
        angle = torch.cat((angle, angle), -1)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def init(self, seed):
        g = torch.Generator().manual_seed(seed)
        depth = (2 * CONFIG["num_hidden_layers"]) ** -0.5
        for name, p in self.named_parameters():
            if p.ndim == 2:
                std = 0.02 if "embed" in name else p.shape[1] ** -0.5 * (depth if "o_proj" in name or "down" in name else 1)
                with torch.no_grad():
                    p.normal_(0, std, generator=g)
        return self

    def forward(self, ids, positions=None, mask=None, past=None):
        """positions, mask and past serve generation; training needs none of them."""
        if positions is None:
            rope = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        else:
            rope = self.cos[positions][:, None], self.sin[positions][:, None]
        x = self.model.embed_tokens(ids)
        for i, layer in enumerate(self.model.layers):
            x = layer(x, rope, mask, None if past is None else past[i])
        x = self.model.norm(x)
        y = F.linear(x, self.model.embed_tokens.weight)
        return y if self.lm_lora is None else y + self.lm_lora(x)

    def add_lora(self, rank=32, alpha=32, seed=0, unembed=True):
        """Freezes the model, puts a LoRA on every linear, returns its parameters."""
        g = torch.Generator().manual_seed(seed)
        out = []
        self.requires_grad_(False)
        for m in self.modules():
            if isinstance(m, Linear):
                m.lora = LoRA(m.out_features, m.in_features, rank, alpha, g)
                out += [m.lora.a, m.lora.b]
        if unembed:
            self.lm_lora = LoRA(VOCAB, CONFIG["hidden_size"], rank, alpha, g)
            out += [self.lm_lora.a, self.lm_lora.b]
        return out


@torch.no_grad()
def generate(model, prompts, stop, most=48):
    """Greedy answers (lists of ids, without the stop) to a batch of prompts, lists of ids."""
    n = max(map(len, prompts))
    ids = torch.full((len(prompts), n), PAD)
    real = torch.zeros(len(prompts), n, dtype=torch.bool)
    for i, p in enumerate(prompts):  # padded on the left; positions start at each prompt's first token
        ids[i, n - len(p):] = torch.tensor(p)
        real[i, n - len(p):] = True
    positions = (real.cumsum(1) - 1).clamp(min=0)
    past = [[] for _ in model.model.layers]
    causal = torch.ones(n, n, dtype=torch.bool).tril()
    eye = torch.eye(n, dtype=torch.bool)
    logits = model(ids, positions, (causal & real[:, None, :] | eye)[:, None], past)[:, -1]
    out = [[] for _ in prompts]
    open_ = set(range(len(prompts)))
    last = positions[:, -1:]
    for _ in range(most):
        nxt = logits.argmax(-1)
        for i in list(open_):
            t = int(nxt[i])
            if t in stop:
                open_.discard(i)
            else:
                out[i].append(t)
        if not open_:
            break
        last = last + 1
        real = torch.cat((real, torch.ones(len(prompts), 1, dtype=torch.bool)), 1)
        logits = model(nxt[:, None], last, real[:, None, None, :], past)[:, -1]
    return out


# ------------------------------------------------------------------- files

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def byte_symbols():
    """The printable stand-ins of the ByteLevel pre-tokenizer, in byte order."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in shown]
    return [chr(b) if b in shown else chr(256 + hidden.index(b)) for b in range(256)]


def write_tokenizer(folder):
    added = [
        dict(id=256 + i, content=t, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
        for i, t in enumerate(SPECIALS)
    ]
    level = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=False, use_regex=False)
    vocab = {s: i for i, s in enumerate(byte_symbols())}
    vocab |= {t: 256 + i for i, t in enumerate(SPECIALS)}
    tokenizer = dict(
        version="1.0", truncation=None, padding=None, added_tokens=added, normalizer=None, pre_tokenizer=level,
        post_processor=None, decoder=level,
        model=dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None,
                   fuse_unk=False, byte_fallback=False, ignore_merges=False, vocab=vocab, merges=[]),
    )
    config = dict(
        tokenizer_class="PreTrainedTokenizerFast", add_bos_token=False, add_prefix_space=False, bos_token=None,
        eos_token="<|im_end|>", pad_token="<|pad|>", unk_token=None, model_max_length=512,
        clean_up_tokenization_spaces=False, chat_template=CHAT_TEMPLATE,
        added_tokens_decoder={str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in added},
    )
    for name, value in (("tokenizer", tokenizer), ("tokenizer_config", config)):
        with open(os.path.join(folder, name + ".json"), "w", encoding="utf-8") as f:
            json.dump(value, f, ensure_ascii=False, indent=1)
            f.write("\n")


def save(model, folder):
    """Writes the Hugging Face folder; the weights are rounded to float16."""
    from safetensors.torch import save_file

    os.makedirs(folder, exist_ok=True)
    state = {k: v.detach().half().contiguous() for k, v in model.state_dict().items()}
    save_file(state, os.path.join(folder, "model.safetensors"), {"format": "pt"})
    os.chmod(os.path.join(folder, "model.safetensors"), 0o644)
    generation = dict(eos_token_id=[EOT, IM_END], pad_token_id=PAD, do_sample=False)
    for name, value in (("config", CONFIG), ("generation_config", generation)):
        with open(os.path.join(folder, name + ".json"), "w") as f:
            json.dump(value, f, indent=2)
            f.write("\n")
    write_tokenizer(folder)


def load(folder):
    from safetensors.torch import load_file

    model = Pocket()
    model.load_state_dict({k: v.float() for k, v in load_file(os.path.join(folder, "model.safetensors")).items()})
    return model
