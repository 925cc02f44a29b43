"""The text tower: open_clip's own transformer, taught to give the teacher's vectors."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import TextTransformer
from torch import Tensor

from models.minilm import MiniLM
from models.recipe import Recipe

CONTEXT = 32
TEXT_CONFIG: dict[str, Any] = {
    "context_length": CONTEXT,
    "vocab_size": 49408,
    "width": 256,
    "heads": 4,
    "layers": 4,
}


def new_text_tower(dim: int) -> TextTransformer:
    """An untrained tower of TEXT_CONFIG, the same that open_clip builds from the exported configuration."""
    return TextTransformer(**TEXT_CONFIG, output_dim=dim)


@torch.no_grad()
def start_from_words(tower: TextTransformer, minilm: MiniLM, spread: float = 0.05) -> None:
    """Give the token embeddings MiniLM's word embeddings, in their principal directions: similar words start similar.

    It shortens the training, and words that are in no training text are still near their like.
    """
    vocabulary = SimpleTokenizer().decoder
    words = [vocabulary[index].replace("</w>", "") for index in range(len(vocabulary))]
    vectors = minilm.word_vectors(words)
    known = vectors.any(1)
    centred = vectors[known] - vectors[known].mean(0)
    _, directions = torch.linalg.eigh(centred.T @ centred)
    start = centred @ directions[:, -tower.width :]
    tower.token_embedding.weight[known] = spread * start / start.std()


def tokenize(texts: Sequence[str]) -> Tensor:
    """Token ids int32 [n, 32], zero after the end token."""
    tokens: Tensor = SimpleTokenizer(context_length=CONTEXT)(list(texts))
    return tokens.int()


def encode(tower: TextTransformer, tokens: Tensor) -> Tensor:
    """The tower's forward for tokens int [n, t <= 32] cut to the longest text: float32 [n, dim]."""
    output: Tensor = before_projection(tower, tokens) @ tower.text_projection
    return output


def before_projection(tower: TextTransformer, tokens: Tensor) -> Tensor:
    """What the tower projects, for tokens int [n, t <= 32] cut to the longest text: float32 [n, width].

    Under the causal mask padding cannot reach the end token, so cutting it changes nothing but the time; nor does
    leaving out, in the last block, all positions but the end token, the only one that is read.
    """
    tokens = tokens.long()
    length, ends = tokens.shape[1], tokens.argmax(-1)
    x = tower.token_embedding(tokens) + tower.positional_embedding[:length]
    *blocks, last = tower.transformer.resblocks
    for block in blocks:
        x = block(x, attn_mask=tower.attn_mask[:length, :length])
    end, keys = x[torch.arange(len(x)), ends][:, None], last.ln_1(x)
    after = torch.arange(length) > ends[:, None]
    mixed, _ = last.attn(last.ln_1(end), keys, keys, key_padding_mask=after, need_weights=False)
    end = end + last.ls_1(mixed)
    end = end + last.ls_2(last.mlp(last.ln_2(end)))
    output: Tensor = tower.ln_final(end[:, 0])
    return output


def cut(tokens: Tensor) -> Tensor:
    """Tokens [n, 32] without the columns that are padding in every row."""
    return tokens[:, : int((tokens != 0).sum(1).max())]


def encode_mixed(tower: TextTransformer, tokens: Tensor, chunk: int = 50) -> Tensor:
    """`encode` for texts of unlike length, in chunks of like length so that little padding is computed: [n, dim]."""
    order = (tokens != 0).sum(1).argsort()
    rows = torch.cat([encode(tower, cut(tokens[part])) for part in order.split(chunk)])
    return rows[order.argsort()]


def length_batches(lengths: Sequence[int], batch: int, rng: random.Random) -> Iterator[list[int]]:
    """Every index once, in batches of like length, the batches in random order."""
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], rng.random()))
    batches = [order[start : start + batch] for start in range(0, len(order), batch)]
    rng.shuffle(batches)
    yield from batches


@torch.inference_mode()
def encode_all(tower: TextTransformer, tokens: Tensor, batch: int = 500) -> Tensor:
    """`encode` for many texts: float32 [n, dim]."""
    return torch.cat([encode(tower, cut(part)) for part in tokens.split(batch)])


def distil(tower: TextTransformer, tokens: Tensor, targets: Tensor, recipe: Recipe, log: Any = print) -> None:
    """Teach the tower, in place: 1 - cosine to the target, and to be told apart from the others of the batch.

    tokens: int32 [n, 32]; targets: float [n, dim], L2 norm 1.
    """
    rng = random.Random(recipe.seed)
    lengths = (tokens != 0).sum(1).tolist()
    steps = recipe.distil_epochs * math.ceil(len(tokens) / recipe.distil_batch)
    optimizer = torch.optim.AdamW(parameter_groups(tower), lr=recipe.distil_lr, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.distil_lr, total_steps=steps, pct_start=0.1
    )
    for epoch in range(recipe.distil_epochs):
        total = 0.0
        for batch in length_batches(lengths, recipe.distil_batch, rng):
            loss = distillation_loss(encode(tower, cut(tokens[batch])), targets[batch].float(), recipe)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        log(f"distil epoch {epoch + 1}: loss {total / len(tokens):.4f}", tower)


def distillation_loss(texts: Tensor, targets: Tensor, recipe: Recipe) -> Tensor:
    """1 - cosine + contrastive share; texts and targets float32 [n, dim]."""
    texts, targets = F.normalize(texts, dim=-1), F.normalize(targets, dim=-1)
    cosine = (texts * targets).sum(1).mean()
    logits = texts @ targets.T / recipe.distil_temperature
    contrast = F.cross_entropy(logits, torch.arange(len(logits)))
    return 1 - cosine + recipe.distil_contrast * contrast


def parameter_groups(tower: TextTransformer, weight_decay: float = 0.01) -> list[dict[str, Any]]:
    """Weight decay for matrices of the layers only, not for norms, biases and embeddings."""
    decayed = [p for n, p in tower.named_parameters() if p.ndim > 1 and "embedding" not in n]
    others = [p for n, p in tower.named_parameters() if p.ndim <= 1 or "embedding" in n]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
