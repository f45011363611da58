"""Pre-train the backbone `mini` on procedural image-text pairs: `python -m bench.mini8.pretrain`.

open_clip's own CLIP class, tokenizer and contrastive loss; pictures and captions from `bench.mini8.corpus`. What other
designs gave is in docs/suite.md. The only liberties taken for speed leave the mathematics alone: the last
block of the image tower computes only the token that is read, a caption that occurs twice in a batch is encoded once,
and the token embedding holds only the rows that captions and prompt templates can use.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench import cards
from bench.mini8 import CLASSES, render
from bench.mini8.assets import CONFIG, MEAN, STD, WEIGHTS, save_mini
from bench.mini8.corpus import Captions, Corpus, draw_corpus


@dataclass(frozen=True)
class Recipe:
    """Everything the weights depend on besides the code and `mini.json`."""

    seed: int = 0
    pictures: int = 120_000
    near: float = 0.3
    samples: int = 300_000
    batch: int = 256
    families: int = 3  # families in one batch: few make hard negatives
    lr: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 0.1
    synonym: float = 0.7
    weights: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CLASSES, 1.0))
    naming: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CLASSES, 0.15))


def build(config: dict[str, Any]) -> nn.Module:
    """A fresh open_clip CLIP from a model config."""
    from open_clip.model import CLIP

    return CLIP(**config)


class Vocabulary:
    """open_clip's tokenizer, restricted to the ids that some caption or template has used so far."""

    def __init__(self, context_length: int, capacity: int) -> None:
        from open_clip.tokenizer import SimpleTokenizer

        self._tokenizer = SimpleTokenizer(context_length=context_length)
        self._known: dict[str, Tensor] = {}
        self.capacity = capacity

    def ids(self, text: str) -> Tensor:
        """Token ids int64 [context_length] of one text in the full vocabulary."""
        if text not in self._known:
            self._known[text] = self._tokenizer([text])[0]
        return self._known[text]

    def used(self) -> Tensor:
        """All ids seen, ascending; the end-of-text id is the largest, as open_clip's pooling needs."""
        return torch.unique(torch.cat(list(self._known.values())))


def encode_pooled(visual: nn.Module, pixels: Tensor) -> Tensor:
    """`visual(pixels)` of open_clip's VisionTransformer, the last block for the class token only."""
    x = visual.conv1(pixels).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1) + visual.positional_embedding
    x = visual.ln_pre(x)
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        x = block(x)
    tokens = last.ln_1(x)
    y = x[:, :1] + last.attn(tokens[:, :1], tokens, tokens, need_weights=False)[0]
    y = y + last.mlp(last.ln_2(y))
    return visual.ln_post(y[:, 0]) @ visual.proj


def normalised(pixels: np.ndarray) -> Tensor:
    """uint8 [n, 3, 32, 32] to float32 with the backbone's mean and deviation."""
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    return (torch.from_numpy(pixels).float() / 255.0 - mean) / std


def shifted(pixels: np.ndarray, generator: np.random.Generator, reach: int = 2, groups: int = 16) -> np.ndarray:
    """Pictures moved by up to `reach` pixels, edges repeated; each sixteenth of the batch by its own offset."""
    side = pixels.shape[-1]
    padded = np.pad(pixels, ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="edge")
    parts = []
    for part in np.array_split(padded, groups):
        y, x = generator.integers(0, 2 * reach + 1, 2)
        parts.append(part[:, :, y : y + side, x : x + side])
    return np.concatenate(parts)


def train(
    recipe: Recipe, config: dict[str, Any], corpus: Corpus, report: Callable[[str], None]
) -> tuple[dict[str, Tensor], Tensor]:
    """State dict of the trained model (full vocabulary) and the ids of the token rows in use."""
    from open_clip.loss import ClipLoss

    torch.manual_seed(recipe.seed)
    generator, chance = np.random.default_rng(recipe.seed), Random(recipe.seed)
    vocabulary = Vocabulary(config["text_cfg"]["context_length"], config["text_cfg"]["vocab_size"])
    captions = Captions(recipe.naming, recipe.synonym)
    steps = recipe.samples // recipe.batch
    picks = draw_batches(corpus.family, recipe, steps, generator)
    texts = [
        [captions.write(chance, int(corpus.family[i]), int(corpus.label[i]), int(corpus.colour[i])) for i in row]
        for row in picks
    ]
    distinct = [sorted(set(row)) for row in texts]
    for text in {t for row in distinct for t in row} | set(prompts()):
        vocabulary.ids(text)
    rows = vocabulary.used()
    position = torch.zeros(vocabulary.capacity, dtype=torch.int64)
    position[rows] = torch.arange(len(rows))

    model = build(config | {"text_cfg": config["text_cfg"] | {"vocab_size": len(rows)}})
    model.train()
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimiser = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=recipe.lr,
        betas=(0.9, 0.98),
        eps=1e-6,
    )
    loss_of = ClipLoss()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = recipe.lr * schedule(step / steps, recipe.warmup)
        pixels = normalised(shifted(corpus.pixels[picks[step]], generator))
        with torch.autocast("cpu", torch.bfloat16):  # a third faster at this width
            features = encode_pooled(model.visual, pixels)
        images = nn.functional.normalize(features.float(), dim=-1)
        tokens = torch.stack([position[vocabulary.ids(t)] for t in distinct[step]])
        index = {t: i for i, t in enumerate(distinct[step])}
        words = model.encode_text(tokens, normalize=True)[[index[t] for t in texts[step]]]
        loss = loss_of(images, words, model.logit_scale.exp())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0.0, math.log(100.0))
        if step % 100 == 0:
            report(f"step {step} of {steps}, loss {loss.item():.3f}")
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    embedding = torch.zeros(vocabulary.capacity, state["token_embedding.weight"].shape[1])
    embedding[rows] = state["token_embedding.weight"]
    return state | {"token_embedding.weight": embedding}, rows


def draw_batches(family: np.ndarray, recipe: Recipe, steps: int, generator: np.random.Generator) -> np.ndarray:
    """Rows of the corpus for every step, int64 [steps, batch], each batch from a few families at random."""
    members = [np.flatnonzero(family == f) for f in np.unique(family)]
    share = np.array([len(m) for m in members]) / len(family)
    picks = np.empty((steps, recipe.batch), np.int64)
    for row in picks:
        chosen = generator.choice(len(members), min(recipe.families, len(members)), replace=False, p=share)
        pool = [members[c] for c in chosen]
        which = generator.integers(0, len(pool), recipe.batch)
        row[:] = [pool[w][int(r * len(pool[w]))] for w, r in zip(which, generator.random(recipe.batch), strict=True)]
    return picks


def schedule(done: float, warmup: float) -> float:
    """Linear warm-up over the share `warmup`, then a cosine to zero."""
    return (done + 1e-3) / warmup if done < warmup else 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def prompts() -> list[str]:
    """Every prompt of every task, in the order of classes and templates."""
    return [t.format(c) for task in CLASSES for c in cards.load(task).classes for t in cards.load(task).templates]


def zero_shot(state: dict[str, Tensor], config: dict[str, Any], split: str = "validation") -> dict[str, float]:
    """Zero-shot accuracy of each task on a split, in percent."""
    from open_clip.tokenizer import SimpleTokenizer

    model = build(config)
    model.load_state_dict(state)
    model.eval()
    tokenizer = SimpleTokenizer(context_length=config["text_cfg"]["context_length"])
    scores = {}
    with torch.no_grad():
        for task in CLASSES:
            card = cards.load(task)
            texts = tokenizer([t.format(c) for c in card.classes for t in card.templates])
            head = model.encode_text(texts, normalize=True).view(len(card.classes), len(card.templates), -1).mean(dim=1)
            images, labels = render(task, split, card.splits[split].rows)  # type: ignore[index]
            guesses = (
                encode_pooled(model.visual, normalised(images)) @ nn.functional.normalize(head, dim=-1).T
            ).argmax(dim=1)
            scores[task] = 100.0 * (guesses.numpy() == labels).mean().item()
    return scores


def main(recipe: Recipe | None = None, path: Path = WEIGHTS) -> None:
    """Draw, train, score on validation and write the weights with their header."""
    recipe = recipe or Recipe()
    torch.set_num_threads(1)
    config = json.loads(CONFIG.read_text(encoding="utf-8"))
    begun = time.process_time()
    corpus = draw_corpus(recipe.pictures, recipe.near, recipe.seed, recipe.weights)
    drawn = time.process_time() - begun
    print(f"{len(corpus.label)} pictures drawn in {drawn:.0f} CPU-s", flush=True)
    state, rows = train(recipe, config, corpus, lambda line: print(line, flush=True))
    seconds = time.process_time() - begun - drawn
    state = {name: tensor.half().float() for name, tensor in state.items()}  # score what is stored
    scores = zero_shot(state, config)
    header = {
        "recipe": asdict(recipe),
        "config": config,
        "cpu_seconds": {"drawing": round(drawn), "training": round(seconds)},
        "zero_shot_validation": {task: round(score, 1) for task, score in scores.items()},
        "torch": torch.__version__,
    }
    save_mini(state, rows, header, path)
    print(json.dumps(header, indent=1))


if __name__ == "__main__":
    main()
