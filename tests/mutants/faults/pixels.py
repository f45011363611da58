"""Faults of images and their sources."""

from tests.mutants.fault import faults

FAULTS = [
    *faults(
        "bench/pixels/images.py",
        ("tests/bench/pixels/test_images.py",),
        (
            "drawn images need not be those of the card",
            "if card.drawn and expected.sha256 and digest(images) != expected.sha256:",
            "if False:",
        ),
        ("mean and deviation change places", ".div_(255.0).sub_(mean).div_(std)", ".div_(255.0).sub_(std).div_(mean)"),
    ),
    *faults(
        "bench/pixels/sources/holdout.py",
        ("tests/bench/pixels/test_sources.py",),
        ("validation is not the reference's", "SEED = 0", "SEED = 1"),
        ("validation images are trained on", "return order[:stay], order[stay:]", "return order, order[stay:]"),
    ),
    *faults(
        "bench/pixels/sources/labels.py",
        ("tests/bench/pixels/test_sources.py",),
        (
            "labels are matched by position, not by name",
            "return [number[plain(name)] for name in names]",
            "return list(range(count))",
        ),
    ),
    *faults(
        "bench/pixels/sources/check.py",
        ("tests/bench/pixels/test_sources.py",),
        ("other rows than were recorded pass", "if expected.get(split, hashes[split]) != hashes[split]:", "if False:"),
    ),
    *faults(
        "bench/pixels/sources/decode.py",
        ("tests/bench/pixels/test_sources_decode.py",),
        ("images are resized as open_clip does not", "Resampling.BICUBIC", "Resampling.BILINEAR"),
    ),
]
