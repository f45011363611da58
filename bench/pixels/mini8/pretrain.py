"""Pre-train the backbone `mini` on procedural image-text pairs: `python -m bench.pixels.mini8.pretrain`.

open_clip's own CLIP class, tokenizer and contrastive loss; pictures and captions from `bench.pixels.mini8.corpus`. What
other designs gave is in docs/suite.md. Two stages:

1. both towers learn from captions that mostly use synonyms ("alpha" for the letter A): image features that separate the
   classes. The learning rate follows a schedule for a million pairs and training stops after 9,000 steps, about
   420,000 pairs, when the features are good enough and experts still have something to learn;
2. the image tower is locked and a fresh text tower learns from captions that hardly ever use the tasks' class names
   (locked-image tuning, Zhai et al., 2022): zero-shot heads that are rough, like CLIP's on DTD or EuroSAT.

So features are good and text alignment is weak, which is what makes fine-tuned CLIP models mergeable. Three liberties
are taken for speed and leave the mathematics alone: the last block of the image tower computes only the token that is
read, a caption that occurs twice in a batch is encoded once, and the token embedding holds only the rows in use.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.cards import datasets
from bench.pixels.images import normalise
from bench.pixels.mini8 import CLASSES, render
from bench.pixels.mini8.assets import CONFIG, EMBEDDING, MEAN, STD, save_mini
from bench.pixels.mini8.corpus import Captions, Corpus, draw_corpus

CHOSEN = dict(zip(CLASSES, (1.0, 1.8, 2.0, 1.5, 1.2, 0.6, 0.6, 1.4, 0.5), strict=True))
ALIKE = dict.fromkeys(CLASSES, 1.0)
NAMED_OFTEN = dict.fromkeys(CLASSES, 0.3) | {"land": 0.04, "scenes": 0.04, "shapes": 0.5}
NAMED_RARELY = dict.fromkeys(CLASSES, 0.02) | {"shapes": 0.5}


@dataclass(frozen=True)
class Stage:
    """What one stage is shown."""

    pairs: int  # that the learning-rate schedule is made for
    steps: int | None  # after which training stops; None: when the schedule ends
    naming: Mapping[str, float]  # share of captions with the class name
    weights: Mapping[str, float]  # how often a family is in a batch
    seed: int


@dataclass(frozen=True)
class Recipe:
    """Everything the weights depend on besides the code and `mini.json`."""

    seed: int = 0  # of the pictures
    pictures: int = 120_000
    near: float = 0.5  # share of pictures in the suite's layout
    weights: Mapping[str, float] = field(default_factory=lambda: CHOSEN)  # share of pictures of a family
    text_pictures: int = 20_000  # of stage 2: the first of the corpus's permutation by `shuffle`
    shuffle: int = 5
    families: int = 3  # in one batch
    synonym: float = 0.95  # of the captions without the class name
    lr: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 0.1
    both: Stage = Stage(1_000_000, 9_000, NAMED_OFTEN, CHOSEN, seed=0)
    text: Stage = Stage(30_000, None, NAMED_RARELY, ALIKE, seed=1)


@dataclass(frozen=True)
class Pairs:
    """One stage's batches (rows of its pictures), their captions, and the token rows that captions and prompts use."""

    batches: list[np.ndarray]
    captions: list[list[str]]
    ids: Tensor  # ids in the full vocabulary, ascending
    tokens: Mapping[str, Tensor]  # caption -> places in `ids`, int64 [context_length]


def build(config: dict[str, Any]) -> Any:
    """A fresh open_clip CLIP from a model config (`Any`: open_clip's attributes are untyped)."""
    from open_clip.model import CLIP

    return CLIP(**config)


def encode_pooled(visual: Any, pixels: Tensor) -> Tensor:
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
    return normalise(torch.from_numpy(pixels), mean, std)


def shifted(pixels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Pictures moved by up to two pixels, edges repeated; each quarter of the batch by its own offset."""
    side = pixels.shape[-1]
    padded = np.pad(pixels, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge")
    parts = []
    for part in np.array_split(padded, 4):
        y, x = generator.integers(0, 5, 2)
        parts.append(part[:, :, y : y + side, x : x + side])
    return np.concatenate(parts)


def pair(corpus: Corpus, recipe: Recipe, stage: Stage, context_length: int, generator: np.random.Generator) -> Pairs:
    """A stage's pairs, in batches of one picture of each class of a few families.

    So no two captions of a batch mean the same thing, which the contrastive loss would punish, and most negatives are
    hard ones. Families are chosen with probability proportional to their weight.
    """
    from open_clip.tokenizer import SimpleTokenizer

    weights = np.array([stage.weights[task] for task in CLASSES])
    members = [
        [np.flatnonzero((corpus.family == family) & (corpus.label == label)) for label in range(classes)]
        for family, classes in enumerate(CLASSES.values())
    ]
    batches, drawn = [], 0
    while drawn < stage.pairs:
        chosen = generator.choice(len(members), recipe.families, replace=False, p=weights / weights.sum())
        batches.append(np.array([generator.choice(rows) for family in chosen for rows in members[family]]))
        drawn += len(batches[-1])
    writer, chance = Captions(stage.naming, recipe.synonym), Random(stage.seed)
    captions = [
        [writer.write(chance, int(corpus.family[i]), int(corpus.label[i]), int(corpus.colour[i])) for i in batch]
        for batch in batches
    ]
    texts = sorted({caption for batch in captions for caption in batch} | set(prompts()))
    # Ascending ids keep the end-of-text id the largest, by which open_clip finds the token to read.
    ids, places = torch.unique(SimpleTokenizer(context_length=context_length)(texts), return_inverse=True)
    return Pairs(batches, captions, ids, dict(zip(texts, places, strict=True)))


def contrast(
    model: Any,
    pairs: Pairs,
    images: Callable[[np.ndarray], Tensor],
    optimiser: torch.optim.Optimizer,
    recipe: Recipe,
    stop: int | None,
    report: Callable[[str], None],
) -> None:
    """open_clip's contrastive loss over the batches, in place, until `stop` steps are done.

    `images` maps rows of the stage's pictures to image features [batch, embed].
    """
    from open_clip.loss import ClipLoss

    loss_of, steps = ClipLoss(), len(pairs.batches)
    trained = [p for p in model.parameters() if p.requires_grad]
    for step, (batch, captions) in enumerate(zip(pairs.batches[:stop], pairs.captions[:stop], strict=True)):
        for group in optimiser.param_groups:
            group["lr"] = recipe.lr * schedule(step / steps, recipe.warmup)
        distinct = sorted(set(captions))
        place = {caption: i for i, caption in enumerate(distinct)}
        features = nn.functional.normalize(images(batch), dim=-1)
        words = model.encode_text(torch.stack([pairs.tokens[c] for c in distinct]), normalize=True)
        loss = loss_of(features, words[[place[c] for c in captions]], model.logit_scale.exp())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0.0, math.log(100.0))
        if step % 200 == 0:
            report(f"step {step} of {stop or steps}, loss {loss.item():.3f}")


def schedule(done: float, warmup: float) -> float:
    """Linear warm-up over the share `warmup`, then a cosine to zero."""
    if done < warmup:
        return (done + 1e-3) / warmup
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def train_both(recipe: Recipe, config: dict[str, Any], corpus: Corpus, report: Callable[[str], None]) -> Any:
    """Stage 1: the trained model; its token rows are this stage's own."""
    torch.manual_seed(recipe.both.seed)
    generator = np.random.default_rng(recipe.both.seed)
    pairs = pair(corpus, recipe, recipe.both, config["text_cfg"]["context_length"], generator)
    model = build(config | {"text_cfg": config["text_cfg"] | {"vocab_size": len(pairs.ids)}}).train()
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98), eps=1e-6)

    def see(batch: np.ndarray) -> Tensor:
        pixels = normalised(shifted(corpus.pixels[batch], generator))
        with torch.autocast("cpu", torch.bfloat16):  # a third faster at this width
            return encode_pooled(model.visual, pixels).float()

    contrast(model, pairs, see, optimiser, recipe, recipe.both.steps, report)
    return model


def train_text(
    recipe: Recipe, config: dict[str, Any], visual: Mapping[str, Tensor], corpus: Corpus, report: Callable[[str], None]
) -> tuple[dict[str, Tensor], Tensor]:
    """Stage 2: state dict of a model (full vocabulary) with this image tower, and the ids of its token rows."""
    torch.manual_seed(recipe.text.seed)
    generator = np.random.default_rng(recipe.text.seed)
    pairs = pair(corpus, recipe, recipe.text, config["text_cfg"]["context_length"], generator)
    model = build(config | {"text_cfg": config["text_cfg"] | {"vocab_size": len(pairs.ids)}})
    model.visual.load_state_dict(visual)
    model.visual.requires_grad_(False)
    model.eval()
    with torch.no_grad():
        chunks = [corpus.pixels[i : i + 256] for i in range(0, len(corpus.label), 256)]
        features = torch.cat([encode_pooled(model.visual, normalised(chunk)) for chunk in chunks])
    model.train()
    text = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(text, lr=recipe.lr, weight_decay=recipe.weight_decay, betas=(0.9, 0.98))
    contrast(model, pairs, lambda batch: features[batch], optimiser, recipe, recipe.text.steps, report)
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    embedding = torch.zeros(config["text_cfg"]["vocab_size"], state[EMBEDDING].shape[1])
    embedding[pairs.ids] = state[EMBEDDING]
    return state | {EMBEDDING: embedding}, pairs.ids


def train(
    recipe: Recipe, config: dict[str, Any], corpus: Corpus, report: Callable[[str], None]
) -> tuple[dict[str, Tensor], Tensor]:
    """Both stages: state dict of the model (full vocabulary) and the ids of the token rows in use, ascending."""
    model = train_both(recipe, config, corpus, report)
    # What is stored is half precision, so that is what the text tower is fitted to.
    visual = {name: tensor.half().float() for name, tensor in model.visual.state_dict().items()}
    few = np.random.default_rng(recipe.shuffle).permutation(len(corpus.label))[: recipe.text_pictures]
    chosen = Corpus(corpus.pixels[few], corpus.family[few], corpus.label[few], corpus.colour[few])
    return train_text(recipe, config, visual, chosen, report)


def prompts() -> list[str]:
    """Every prompt of every task, in the order of classes and templates."""
    cards = map(datasets.load, CLASSES)
    return [template.format(name) for card in cards for name in card.classes for template in card.templates]


def zero_shot(state: dict[str, Tensor], config: dict[str, Any]) -> dict[str, float]:
    """Zero-shot accuracy of each task on its validation split, in percent."""
    from open_clip.tokenizer import SimpleTokenizer

    model = build(config).eval()
    model.load_state_dict(state)
    tokenizer = SimpleTokenizer(context_length=config["text_cfg"]["context_length"])
    scores = {}
    with torch.no_grad():
        for task, classes in CLASSES.items():
            card = datasets.load(task)
            texts = tokenizer([t.format(c) for c in card.classes for t in card.templates])
            head = model.encode_text(texts, normalize=True).view(classes, len(card.templates), -1).mean(dim=1)
            images, labels = render(task, "validation", card.splits["validation"].rows)
            features = encode_pooled(model.visual, normalised(images))
            guesses = (features @ nn.functional.normalize(head, dim=-1).T).argmax(dim=1)
            scores[task] = 100.0 * float((guesses.numpy() == labels).mean())
    return scores


def main() -> None:
    """Draw, train, score what is stored on validation, and write the weights with their header."""
    recipe = Recipe()
    torch.set_num_threads(1)
    config = json.loads(CONFIG.read_text(encoding="utf-8"))
    begun = time.process_time()
    corpus = draw_corpus(recipe.pictures, recipe.near, recipe.seed, recipe.weights)
    drawn = time.process_time() - begun
    print(f"{len(corpus.label)} pictures drawn in {drawn:.0f} CPU-s", flush=True)
    state, rows = train(recipe, config, corpus, lambda line: print(line, flush=True))
    seconds = time.process_time() - begun - drawn
    scores = zero_shot({name: tensor.half().float() for name, tensor in state.items()}, config)
    header = {
        "recipe": asdict(recipe),
        "config": config,
        "cpu_seconds": {"drawing": round(drawn), "training": round(seconds)},
        "zero_shot_validation": {task: round(score, 1) for task, score in scores.items()},
        "torch": torch.__version__,
    }
    save_mini(state, rows, header)
    print(json.dumps(header, indent=1))


if __name__ == "__main__":
    main()
