"""Lines from synthetic rows: what belongs together, what is complete, what it is normalised by."""

import json

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from samples import METHODS, OPERATORS, TASKS, Synthetic

from bench.errors import BenchError, UnknownName
from bench.store.records import CELLS, SCHEMA, Record
from bench.tables import collect, frames
from bench.tables.line import difference


def lines_of(sample, **kwargs):
    return collect.collect(*sample.tables(), **kwargs)


def stored(sample, kind, finetuning, operator="", split="test"):
    """The rows as stored: {(seed, task): correct / total}."""
    return {
        (row["seed"], row["task"]): row["correct"] / row["total"]
        for record in sample.records
        for row in record.rows
        if (row["kind"], row["finetuning"], row["operator"], row["split"]) == (kind, finetuning, operator, split)
    }


def test_one_line_per_method_and_operator_and_a_line_per_reference():
    lines = lines_of(Synthetic())
    assert [line.name for line in lines.addition] == sorted(
        (f"{m}/{o}" for m in METHODS for o in OPERATORS), key=lambda n: tuple(n.split("/"))
    )
    assert [line.name for line in lines.zeroshot] == ["zero-shot"]
    assert {line.name for line in lines.experts} == {f"{m}/expert" for m in METHODS}
    assert {line.name for line in lines.negation} == {f"{m}/negation" for m in METHODS}
    assert (lines.tasks, lines.control, lines.others) == (TASKS, "shapes", 0)


def test_accuracy_is_the_mean_over_tasks_and_seeds():
    sample = Synthetic()
    found = stored(sample, "addition", "att", "ties")
    assert len(found) == 9
    line = lines_of(sample).find("att/ties")
    assert line.accuracy == pytest.approx(sum(found.values()) / 9)
    assert line.task_accuracy("birds") == pytest.approx(sum(found[s, "birds"] for s in range(3)) / 3)


def test_normalised_by_own_and_by_plain_experts_of_the_same_seed():
    sample = Synthetic()
    lines = lines_of(sample)
    merged = stored(sample, "addition", "att+orthoreg", "ties")
    for reference, method in (("", "att+orthoreg"), ("nonlinear", "nonlinear")):
        experts = stored(sample, "expert", method)
        expected = sum(merged[where] / experts[where] for where in merged) / 9
        assert lines.normalised(lines.find("att+orthoreg/ties"), reference) == pytest.approx(expected)


def test_a_missing_task_makes_a_line_incomplete_and_meanless():
    rows, cells = Synthetic().tables()
    gone = pc.and_(
        pc.and_(pc.equal(rows["key"], "addition-att-ties-1"), pc.equal(rows["task"], "birds")),
        pc.equal(rows["split"], "test"),
    )
    line = collect.collect(rows.filter(pc.invert(gone)), cells).find("att/ties")
    assert (line.measured, line.complete, line.accuracy) == (2, False, None)
    assert line.task_accuracy("birds") is None
    assert line.task_accuracy("cars") is not None
    assert line.outcome() is None


def test_without_plain_experts_the_common_reference_is_unknown_not_guessed():
    lines = lines_of(Synthetic(methods=("att",)))
    line = lines.find("att/ties")
    assert lines.normalised(line) is not None
    assert lines.normalised(line, "nonlinear") is None


def test_difference_pairs_common_seeds_and_images():
    sample = Synthetic()
    lines = lines_of(sample)
    a, b = lines.find("att/ties"), lines.find("nonlinear/ties")
    values, seeds = difference(a, b)
    assert seeds == (0, 1, 2)
    assert [v.shape for v in values] == [(3, 120), (3, 90), (3, 150)]
    mean = sum(float(v.mean()) for v in values) / 3
    assert mean == pytest.approx(a.accuracy - b.accuracy)


def test_the_pretrained_model_pairs_with_every_seed_and_disjoint_seeds_with_none():
    lines = lines_of(Synthetic())
    values, seeds = difference(lines.find("att/ties"), lines.find("zero-shot"))
    assert seeds == (0, 1, 2)
    assert values[0].shape == (3, 120)
    lines = lines_of(Synthetic())
    a, b = lines.find("att/ties"), lines.find("nonlinear/ties")
    a.seeds, b.seeds = (0,), (1, 2)
    assert difference(a, b) is None


def test_options_are_named_only_where_two_lines_would_share_a_name():
    sample = Synthetic(seeds=(0,), methods=("att",), operators=("ties",))
    experts = [r.key for r in sample.records if r.key.startswith("expert")]
    sample.addition("att", "ties", 0, experts, 0.6, options=json.dumps({"density": 0.1}))
    assert [line.name for line in lines_of(sample).addition] == ["att/ties[density=0.1]", "att/ties[defaults]"]


def test_of_several_versions_of_an_operator_the_latest_keeps_the_plain_name():
    sample = Synthetic(seeds=(0,), methods=("att",), operators=("ties",))
    (record,) = (r for r in sample.records if r.key == "addition-att-ties-0")
    for version in (2, 3):
        rows = tuple(dict(row, key=f"later {version}") for row in record.rows)
        sample.records.append(Record(f"later {version}", record.identity | {"version": version}, rows, {}, {}))
    lines = lines_of(sample).addition
    assert {line.name: line.version for line in lines} == {"att/ties[v1]": 1, "att/ties[v2]": 2, "att/ties": 3}


def test_results_of_two_recipes_never_share_a_line():
    sample = Synthetic(seeds=(0,), methods=("att",), operators=("ties",))
    experts = []
    for task in TASKS:
        rows = [sample.row("expert", task, 0.7, finetuning="att", seed=0, scaling=1.0)]
        key = sample.add(f"other-{task}", rows, task=task, finetuning="att", seed=0, recipe={"lr": 2})
        experts.append(key)
    merged = next(r for r in sample.records if r.key == "addition-att-ties-0")
    sample.add("again", list(merged.rows), **{**merged.identity, "experts": experts})
    lines = lines_of(sample)
    assert len({line.name for line in lines.addition}) == len(lines.addition) == 2
    assert len({line.name for line in lines.experts}) == len(lines.experts) == 2
    first, second = (lines.normalised(line) for line in lines.addition)
    assert first != second


def test_of_two_recipes_of_plain_experts_neither_is_the_common_reference():
    sample = Synthetic(seeds=(0, 1), methods=("nonlinear", "att"), operators=("ties",))
    before = lines_of(sample).normalised(lines_of(sample).find("att/ties"), "nonlinear")
    assert before is not None
    fixed = {"finetuning": "nonlinear", "seed": 0}
    for task in TASKS:
        rows = [sample.row("expert", task, 0.7, scaling=1.0, **fixed)]
        sample.add(f"other-{task}", rows, task=task, recipe={"lr": 2}, **fixed)
    lines = lines_of(sample)  # nobody has merged them
    assert lines.normalised(lines.find("att/ties"), "nonlinear") == before
    sample.addition("nonlinear", "other", 0, [f"other-{task}" for task in TASKS], 0.5)
    lines = lines_of(sample)
    att = lines.find("att/ties")
    assert lines.normalised(att) is not None
    assert lines.normalised(att, "nonlinear") is None
    assert lines.normalised(att, "nonlinear", seeds=[1]) is not None
    own = lines.find("nonlinear/other")
    assert lines.normalised(own, "nonlinear") == lines.normalised(own)


def test_every_difference_is_moderated_by_the_rows_that_have_its_seeds():
    """A row of one seed before the others changes nothing about them."""
    sample = Synthetic(negation=False)
    lines = lines_of(sample)
    pair = lines.find("att/ties"), lines.find("nonlinear/ties")
    (alone,) = lines.differences([pair])
    prior = lines.seed_prior(pair[0], (0, 1, 2), paired=True)
    assert prior is not None
    young = sample.addition("att", "young", 0, [f"expert-att-{t}-0" for t in TASKS], 0.9)
    more = lines_of(sample)
    assert (more.find("att/young").seeds, young) == ((0,), "addition-att-young-0")
    first, second = more.differences([(more.find("att/young"), more.find("att/ties")), pair])
    assert (first.seeds, second.p, second.error) == (1, alone.p, alone.error)
    assert more.seed_prior(pair[0], (0, 1, 2), paired=True) == prior
    assert more.seed_prior(pair[0], (0,), paired=True) is None


def test_recipes_may_differ_between_the_tasks_of_one_set():
    sample = Synthetic(seeds=(0,), methods=("att",), operators=("ties",))
    for record in sample.records:
        if record.identity["kind"] == "expert":
            record.identity["recipe"] = {"epochs": len(record.identity["task"])}
    lines = lines_of(sample)
    assert [line.name for line in lines.experts] == ["att/expert"]
    assert lines.experts[0].complete


def test_merges_of_fewer_tasks_are_counted_but_are_no_rows():
    sample = Synthetic(seeds=(0,), methods=("att",), operators=("ties",))
    rows = [
        sample.row("addition", t, 0.5, finetuning="att", operator="ties", seed=0, tasks="apples+birds")
        for t in TASKS[:2]
    ]
    sample.add(
        "subset", rows, finetuning="att", operator="ties", seed=0, experts=["expert-att-apples-0", "expert-att-birds-0"]
    )
    lines = lines_of(sample)
    assert (len(lines.addition), lines.others) == (1, 1)


def test_sweeps_average_validation_over_tasks_and_seeds():
    sample = Synthetic()
    rows, cells = sample.tables()
    lines = collect.collect(rows, cells)
    points = collect.sweeps(rows, lines.addition)["att/ties"]
    expected = [
        row["correct"] / row["total"]
        for record in sample.records
        for row in record.rows
        if (row["kind"], row["finetuning"], row["operator"], row["split"]) == ("addition", "att", "ties", "validation")
        and row["scaling"] == 0.5
    ]
    assert len(expected) == 9
    assert points[0.5] == pytest.approx(sum(expected) / 9)
    assert list(points) == [0.0, 0.25, 0.5]


def test_seconds_come_from_provenance_and_are_unknown_where_it_is_silent():
    sample = Synthetic(seeds=(0,), methods=("att",), operators=("ties",))
    seconds = {r.key: r.provenance["seconds"] for r in sample.records}
    lines = lines_of(sample)
    line = lines.find("att/ties")
    assert lines.seconds(line) == seconds["addition-att-ties-0"]
    assert lines.seconds_of_experts(line) == sum(seconds[f"expert-att-{t}-0"] for t in TASKS)
    del lines.cells["expert-att-apples-0"].provenance["seconds"]
    assert lines.seconds_of_experts(line) is None


def test_unknown_names_get_the_nearest_one():
    lines = lines_of(Synthetic())
    with pytest.raises(UnknownName, match="did you mean 'att/ties'"):
        lines.find("att/tie")
    with pytest.raises(UnknownName, match="did you mean 'toy'"):
        lines_of(Synthetic(), suite="tpy")


def test_nothing_and_several_suites_are_said_in_one_line():
    with pytest.raises(BenchError, match="no results here yet"):
        collect.collect(SCHEMA.empty_table(), CELLS.empty_table())
    both = [pa.concat_tables(t) for t in zip(Synthetic().tables(), Synthetic(suite="other").tables(), strict=True)]
    with pytest.raises(BenchError, match="2 suites \\(other, toy\\)"):
        collect.collect(*both)


def test_two_measurements_of_one_cell_with_other_numbers_are_refused():
    sample = Synthetic(seeds=(0,), methods=("att",), operators=("ties",))
    merged = next(r for r in sample.records if r.key == "addition-att-ties-0")
    changed = [dict(row, correct=row["correct"] - 1) for row in merged.rows]
    sample.add("twice", changed, **merged.identity)
    with pytest.raises(BenchError, match="measured twice with other numbers"):
        lines_of(sample)


@pytest.mark.parametrize(("rate", "shown"), [(None, None), (0.12345, 12.35), (-0.00001, 0.0), (1.0, 100.0)])
def test_percent_has_two_decimals(rate, shown):
    assert frames.percent(rate) == shown
    assert str(frames.percent(rate)) != "-0.0"
