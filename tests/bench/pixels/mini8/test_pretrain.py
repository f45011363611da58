"""Pre-training: the fast image tower is open_clip's, batches have no doubles, captions do what their shares say."""

import json
from collections import Counter
from random import Random

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from bench.pixels.mini8 import CLASSES
from bench.pixels.mini8.assets import CONFIG
from bench.pixels.mini8.corpus import COLOURS, NAMED, SYNONYMS, Captions, Corpus, draw_corpus, main_colour
from bench.pixels.mini8.pretrain import Recipe, Stage, build, encode_pooled, pair, prompts, schedule, shifted, train

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def blank_corpus(copies: int = 3) -> Corpus:
    """`copies` empty pictures of every class of every task."""
    family = np.concatenate([np.full(n * copies, f) for f, n in enumerate(CLASSES.values())])
    label = np.concatenate([np.arange(n * copies) % n for n in CLASSES.values()])
    return Corpus(np.zeros((len(label), 3, 32, 32), np.uint8), family, label, np.zeros(len(label), np.int64))


def test_pooled_tower_equals_open_clip() -> None:
    torch.manual_seed(0)
    model = build(TINY).eval()
    pixels = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        assert_close(encode_pooled(model.visual, pixels), model.visual(pixels), atol=1e-6, rtol=1e-5)


def test_a_batch_has_each_class_of_its_families_once() -> None:
    corpus = blank_corpus()
    stage = Stage(500, None, dict.fromkeys(CLASSES, 0.3), dict.fromkeys(CLASSES, 1.0), seed=3)
    pairs = pair(corpus, Recipe(families=2), stage, 16, np.random.default_rng(3))
    assert sum(map(len, pairs.batches)) >= 500
    assert int(torch.stack(list(pairs.tokens.values())).max()) == len(pairs.ids) - 1
    assert pairs.ids[-1] == 49407  # end of text stays the largest id, where open_clip looks for it
    for rows, captions in zip(pairs.batches, pairs.captions, strict=True):
        classes = list(zip(corpus.family[rows], corpus.label[rows], strict=True))
        assert len(captions) == len(classes) == len(set(classes))
        families = {family for family, _ in classes}
        assert len(families) == 2
        assert len(classes) == sum(list(CLASSES.values())[f] for f in families)


def test_names_occur_as_often_as_asked() -> None:
    letters = list(CLASSES).index("letters")
    chance = Random(1)
    writer = Captions(dict.fromkeys(CLASSES, 0.25), synonym=0.8)
    said = Counter()
    for _ in range(4000):
        caption = writer.write(chance, letters, 1, 0)
        said["name" if "the letter B" in caption else "synonym" if "bravo" in caption else "kind"] += 1
    assert said["name"] / 4000 == pytest.approx(0.25, abs=0.03)
    assert said["synonym"] / 4000 == pytest.approx(0.75 * 0.8, abs=0.03)
    assert said["kind"] / 4000 == pytest.approx(0.75 * 0.2, abs=0.03)


def test_every_class_has_its_own_synonym() -> None:
    for task, words in SYNONYMS.items():
        assert len(words.split()) == len(set(words.split())) == CLASSES[task]
    assert set(NAMED) == set(CLASSES)


def test_main_colour() -> None:
    grass, night = np.full((3, 32, 32), 60, np.uint8), np.zeros((3, 32, 32), np.uint8)
    grass[1] = 160
    assert [list(COLOURS)[i] for i in main_colour(np.stack([grass, night]))] == ["green", "black"]


def test_shifts_move_the_picture_and_keep_its_values() -> None:
    pixels = np.zeros((8, 3, 32, 32), np.uint8)
    pixels[:, :, 16, 16] = 255
    moved = shifted(pixels, np.random.default_rng(0))
    assert moved.shape == pixels.shape
    assert (moved.reshape(8, -1).astype(int).sum(axis=1) == 3 * 255).all()
    y = moved[:, 0].argmax(axis=1).max(axis=1)
    assert set(y) <= {14, 15, 16, 17, 18}
    assert len(set(y)) > 1


def test_schedule_warms_up_and_ends_at_zero() -> None:
    assert schedule(0.05, 0.1) == pytest.approx(0.51)
    assert schedule(0.1, 0.1) == pytest.approx(1.0)
    assert schedule(0.55, 0.1) == pytest.approx(0.5)
    assert schedule(1.0, 0.1) == pytest.approx(0.0)


def test_prompts_cover_every_class_and_fit_the_context() -> None:
    tokenizer = pytest.importorskip("open_clip.tokenizer").SimpleTokenizer(context_length=77)
    length = json.loads(CONFIG.read_text())["text_cfg"]["context_length"]
    assert len(prompts()) == sum(3 * n for n in CLASSES.values())
    assert int((tokenizer(prompts()) != 0).sum(dim=1).max()) <= length


def test_training_repeats_itself_and_stores_only_words_in_use() -> None:
    even = dict.fromkeys(CLASSES, 1.0)
    recipe = Recipe(
        pictures=1800,
        weights=even,
        text_pictures=1500,
        both=Stage(300, 3, dict.fromkeys(CLASSES, 0.3), even, seed=0),
        text=Stage(100, None, dict.fromkeys(CLASSES, 0.1), even, seed=1),
    )
    corpus = draw_corpus(recipe.pictures, recipe.near, recipe.seed, recipe.weights)
    lines: list[str] = []
    state, rows = train(recipe, TINY, corpus, lines.append)
    again, _ = train(recipe, TINY, corpus, lines.append)
    assert state.keys() == build(TINY).state_dict().keys()
    for name, tensor in state.items():
        assert torch.equal(tensor, again[name]), name
    assert rows.tolist() == sorted(set(rows.tolist()))
    embedding = state["token_embedding.weight"]
    assert embedding.shape == (49408, 16)
    assert set(embedding.abs().sum(dim=1).nonzero().flatten().tolist()) <= set(rows.tolist())
    assert lines[0].startswith("step 0 of 3, loss ")
    assert len(lines) == 4  # two stages, twice
