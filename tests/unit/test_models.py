import random
from itertools import pairwise
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")

from models.cache import cached, cpu_minutes  # noqa: E402
from models.finish import finish  # noqa: E402
from models.heads import ImageHead  # noqa: E402
from models.imagenet import CLASSES, ClassFeatures  # noqa: E402
from models.recall import both_directions, ranks, summary  # noqa: E402
from models.recipe import Recipe  # noqa: E402
from models.teacher import ClassKnowledge, PhotoVectors  # noqa: E402
from models.text_tower import encode, length_batches, new_text_tower, tokenize  # noqa: E402
from models.texts import caption_words, in_template  # noqa: E402
from models.tune import TextLessons  # noqa: E402


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


def test_the_last_step_moves_the_projections_and_nothing_else_of_the_tower() -> None:
    torch.manual_seed(0)
    dim, photos = 8, 6
    features = torch.rand(1, photos, 5)
    texts = tokenize(["a dog", "a cat", "a bus", "an owl", "a key", "a boat"])
    lessons = TextLessons(
        torch.arange(photos)[:, None], tokenize(["owl"] * CLASSES)[None], texts, torch.zeros(photos, dim)
    )
    classifier = torch.nn.Linear(5, CLASSES)
    knowledge = ClassKnowledge(ClassFeatures(classifier, features[0]), torch.zeros(1, CLASSES, 3), classifier)
    tower = new_text_tower(dim).eval()
    head = ImageHead(features[0].mean(0), features[0].std(0), dim, dropout=0.5).eval()
    recipe = Recipe(dim=dim, finish_epochs=2, finish_batch=3, finish_classes=4)
    photo_vectors = PhotoVectors(features, torch.zeros(photos, 1, 3))
    scale = torch.tensor(2.0)
    finished, new_head, _ = finish(tower, head, scale, photo_vectors, knowledge, lessons, recipe)
    before, after = tower.state_dict(), finished.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"text_projection"}
    assert not torch.equal(head.fc1.weight, new_head.fc1.weight)
    assert not new_head.training


def test_cpu_time_is_what_the_run_recorded_or_unknown(tmp_path: Path) -> None:
    cached(tmp_path / "made.pt", lambda: {"t": torch.ones(1)})
    torch.save({"t": torch.ones(1)}, tmp_path / "older.pt")
    assert cpu_minutes(tmp_path) == {"made": 0.0, "older": None}
