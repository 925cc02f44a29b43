import random
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")

from models.heads import ImageHead  # noqa: E402
from models.recall import both_directions, ranks, summary  # noqa: E402
from models.text_tower import encode, length_batches, new_text_tower, tokenize  # noqa: E402
from models.texts import caption_words, in_template  # noqa: E402


def test_rank_is_of_the_best_relevant_item_and_ties_cost_half() -> None:
    scores = torch.tensor([[0.9, 0.5, 0.1], [0.2, 0.2, 0.2], [0.3, 0.2, 0.1]])
    relevant = torch.tensor([[False, True, True], [True, False, False], [True, False, False]])
    assert ranks(scores, relevant).tolist() == [2, 2, 1]


def test_summary_counts_ranks_within_each_depth() -> None:
    figures = summary(torch.tensor([1, 3, 7, 20]))
    assert figures == {"recall_at_1": 0.25, "recall_at_5": 0.5, "recall_at_10": 0.75, "median_rank": 5.0}


def test_image_to_text_takes_any_caption_of_the_photo() -> None:
    images = torch.eye(2)
    texts = torch.tensor([[1.0, 0.0], [0.1, 1.0], [0.0, 1.0], [0.9, 1.0]])
    figures = both_directions(images, texts, [0, 0, 1, 1])
    assert figures["image_to_text"]["recall_at_1"] == 1.0
    assert figures["text_to_image"]["recall_at_1"] == 0.75


def test_article_agrees_with_the_name() -> None:
    assert in_template("a photo of a {}", "owl") == "a photo of an owl"
    assert in_template("a photo of a {}", "giraffe") == "a photo of a giraffe"
    assert in_template("{}", "apple") == "apple"


def test_caption_words_are_counted_without_case_and_rare_ones_left_out() -> None:
    assert caption_words(["A dog .", "a Dog and a cat"]) == ["a", "dog"]


def test_length_batches_hold_every_index_once_and_like_lengths() -> None:
    lengths = [random.Random(1).randrange(3, 30) for _ in range(100)]
    batches = list(length_batches(lengths, 16, random.Random(0)))
    assert sorted(index for batch in batches for index in batch) == list(range(100))
    spans = sorted((min(lengths[i] for i in b), max(lengths[i] for i in b)) for b in batches)
    assert all(left[1] <= right[0] for left, right in pairwise(spans))


def test_cut_tokens_encode_as_open_clip_encodes_them_with_padding() -> None:
    torch.manual_seed(0)
    tower = new_text_tower(16).eval()
    tokens = tokenize(["a dog", "two children play football in the snow"])
    with torch.no_grad():
        assert torch.allclose(encode(tower, tokens[:, :12]), tower(tokens.long()), atol=1e-5)


def test_folded_head_is_the_same_function_on_raw_features() -> None:
    torch.manual_seed(0)
    head = ImageHead(torch.rand(8), torch.rand(8) + 0.5, dim=4, dropout=0.5).eval()
    folded, features = head.folded(), torch.randn(5, 8)
    hidden = torch.nn.functional.gelu(features @ folded["fc1.weight"].T + folded["fc1.bias"])
    expected = hidden @ folded["fc2.weight"].T + folded["fc2.bias"]
    with torch.no_grad():
        assert torch.allclose(head(features), expected, atol=1e-5)
