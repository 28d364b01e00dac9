"""No cohort on both sides, every case once, whatever the cohorts' sizes."""

from itertools import chain, combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets.subsets import (
    closest_groups,
    healthy_roles,
    labelled_part,
    pack,
    split_cases,
)
from pipeline.errors import PipelineError
from pipeline.settings import Experiment, Split
from pipeline.split import split
from pipeline.storage.files import read_json, write_json
from pipeline.storage.layout import Layout
from pipeline.train_mae import lesion_free_slices

ROLES = ("train", "validation", "test")
COHORTS = st.lists(st.integers(3, 40), min_size=8, max_size=14)


def with_roles(roles):
    return {name: {"group": "", "role": role} for name, role in roles.items()}


def cohort_cases(sizes):
    return {
        f"sub-r{cohort:03}s{number:03}": {"group": f"r{cohort:03}", "role": ""}
        for cohort, size in enumerate(sizes)
        for number in range(size)
    }


@given(sizes=COHORTS, seed=st.integers(0, 99))
def test_cohorts_stay_whole_and_every_case_is_used_once(sizes, seed):
    cases = cohort_cases(sizes)
    subsets = split_cases(cases, Split(by="group", subsets=3), seed)
    used = [case for subset in subsets for names in subset.values() for case in names]
    assert sorted(used) == sorted(cases)
    for subset in subsets:
        testing = {cases[case]["group"] for case in subset["test"]}
        learning = {cases[case]["group"] for case in subset["train"] + subset["validation"]}
        assert not testing & learning
        assert all(subset.values())


@given(sizes=COHORTS, seed=st.integers(0, 99), subsets=st.integers(1, 4))
def test_the_mae_learns_from_no_case_that_validates_or_tests(
    tmp_path_factory, sizes, seed, subsets
):
    layout = Layout(tmp_path_factory.mktemp("split"), "brain")
    cases = {
        name: {
            **case,
            "labelled": True,
            "slices": 4,
            "slices_with_lesion": [number % 3],
            "empty_slices": [3] if number % 2 else [],
        }
        for number, (name, case) in enumerate(cohort_cases(sizes).items())
    }
    write_json(layout.cases, {"cases": cases})
    split(layout, Split(by="group", subsets=subsets), seed)
    roles = read_json(layout.split)["subsets"].values()
    learnt, validated = lesion_free_slices(layout, cases)
    train, validation, test = (
        {case for subset in roles for case in subset[role]} for role in ROLES
    )
    fit = {
        (name, z)
        for name, case in cases.items()
        for z in range(4)
        if z not in case["slices_with_lesion"] + case["empty_slices"]
    }
    assert sorted(learnt) == sorted((case, z) for case, z in fit if case in train)
    assert not train & (validation | test)
    assert not {case for case, _ in validated} & test
    assert set(validated) <= fit


@given(sizes=st.lists(st.integers(1, 30), min_size=2, max_size=8), seed=st.integers(0, 9))
def test_the_test_share_is_as_close_as_whole_cohorts_allow(sizes, seed):
    groups = {str(i): ["x"] * size for i, size in enumerate(sizes)}
    wanted = 0.2 * sum(sizes)
    reached = sum(len(groups[name]) for name in closest_groups(groups, wanted, seed))
    chosen = (combinations(sizes, count) for count in range(1, len(sizes)))
    possible = map(sum, chain.from_iterable(chosen))
    assert abs(reached - wanted) == min(abs(total - wanted) for total in possible)


def test_one_more_case_moves_few_others():
    settings = Split(test=20, validation=20)
    cases = with_roles({f"c{i}": "" for i in range(100)})
    (before,) = split_cases(cases, settings, 1)
    (after,) = split_cases(cases | with_roles({"new": ""}), settings, 1)
    assert [len(before[role]) for role in ROLES] == [60, 20, 20]
    moved = sum(case not in after[role] for role, names in before.items() for case in names)
    assert moved <= 3


def test_one_large_cohort_fills_a_subset_and_gets_company_to_hold_out():
    sizes = [120] + [17] * 31 + [8]
    parts = pack({str(i): ["x"] * size for i, size in enumerate(sizes)}, 4, 0)
    totals = sorted(sum(sizes[int(name)] for name in part) for part in parts)
    assert sum(totals) == 655
    assert totals[-1] - totals[0] <= 17
    parts = pack({"a": ["x"] * 50, **{str(i): ["x"] for i in range(5)}}, 3, 0)
    assert min(len(part) for part in parts) == 2


def test_given_roles_are_kept_and_make_one_subset():
    cases = with_roles({"a": "train", "b": "train", "c": "validation", "d": "test"})
    (subset,) = split_cases(cases, Split(), 0)
    assert subset == {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}
    for role in ROLES:
        without = {name: case for name, case in cases.items() if case["role"] != role}
        with pytest.raises(PipelineError, match=f"no case has the role '{role}'"):
            split_cases(without, Split(), 0)
    with pytest.raises(PipelineError, match="case e has role ''"):
        split_cases(cases | with_roles({"e": ""}), Split(), 0)
    with pytest.raises(PipelineError, match=r"split\.subsets: found 4"):
        split_cases(cases, Split(subsets=4), 0)
    # where only test cases are given, the rest is shared out
    cases = with_roles({**{f"t{i}": "" for i in range(10)}, "x": "test"})
    (subset,) = split_cases(cases, Split(validation=3), 0)
    assert subset["test"] == ["x"]
    assert [len(subset["train"]), len(subset["validation"])] == [7, 3]


@pytest.mark.parametrize(
    ("sizes", "settings", "said"),
    [
        ([5, 5], Split(by="group", subsets=3), "found 2 groups"),
        ([9], Split(by="group"), "expected at least 2 to hold one out"),
        ([1, 1], Split(), "expected at least one for training"),
    ],
)
def test_too_few_cases_are_refused(sizes, settings, said):
    with pytest.raises(PipelineError, match=said):
        split_cases(cohort_cases(sizes), settings, 0)


def test_the_file_names_roles_unlabelled_and_achieved_fractions(tmp_path):
    layout = Layout(tmp_path, "brain")
    cases = {name: {**case, "labelled": True} for name, case in cohort_cases([4, 6]).items()}
    cases["extra"] = {"group": "", "role": "unlabelled", "labelled": False}
    cases["sound"] = {"group": "", "role": "healthy", "labelled": False}
    write_json(layout.cases, {"cases": cases})
    split(layout, Split(by="group"), 3)
    written = read_json(layout.split)
    assert written["unlabelled"] == ["extra"]
    fractions = written["fractions"]["1"]
    assert fractions["test"] == pytest.approx(0.4)
    assert sum(fractions[role] for role in ROLES) == pytest.approx(1) == sum(fractions.values())
    split(layout, Split(by="group"), 3)
    assert read_json(layout.split)["digest"] == written["digest"]


def test_given_roles_must_not_cut_a_group():
    roles = [("a", "x", "train"), ("b", "x", "validation"), ("c", "y", "test"), ("d", "x", "test")]
    cases = {name: {"group": group, "role": role} for name, group, role in roles}
    with pytest.raises(PipelineError, match=r"put x both in test and"):
        split_cases(cases, Split(by="group"), 0)
    assert split_cases(cases, Split(by="case"), 0)[0]["test"] == ["c", "d"]
    cases["d"]["role"] = "train"
    assert split_cases(cases, Split(by="group"), 0)[0]["test"] == ["c"]


def cases_of(groups):
    return {name: {"group": group, "role": ""} for name, group in groups.items()}


def test_seven_cases_in_three_folds_by_hand():
    # in hash order e g b f a c d, dealt out one by one; the first that is left validates
    folds = split_cases(cases_of(dict.fromkeys("abcdefg", "")), Split(folds=3, validation=1), 0)
    assert folds == [
        {"train": ["a", "b", "c"], "validation": ["g"], "test": ["d", "e", "f"]},
        {"train": ["b", "c", "d", "f"], "validation": ["e"], "test": ["a", "g"]},
        {"train": ["a", "d", "f", "g"], "validation": ["e"], "test": ["b", "c"]},
    ]


def test_a_fold_may_be_one_group_and_the_smaller_ones_share_one():
    groups = {**dict.fromkeys("abc", "X"), **dict.fromkeys("de", "Y"), "f": "Z", "g": "W"}
    settings = Split(by="group", folds=3, validation=1)
    folds = split_cases(cases_of(groups), settings, 0)
    assert [fold["test"] for fold in folds] == [["a", "b", "c"], ["d", "e"], ["f", "g"]]


@given(
    sizes=COHORTS,
    seed=st.integers(0, 99),
    folds=st.integers(2, 8),
    by=st.sampled_from(["case", "group"]),
)
def test_every_case_is_tested_once_and_no_group_is_cut(sizes, seed, folds, by):
    cases = cohort_cases(sizes)
    subsets = split_cases(cases, Split(by=by, folds=folds), seed)
    assert sorted(case for subset in subsets for case in subset["test"]) == sorted(cases)
    for subset in subsets:
        assert sorted(case for role in ROLES for case in subset[role]) == sorted(cases)
        assert all(subset.values())
        testing = {cases[case]["group"] for case in subset["test"]}
        learning = {cases[case]["group"] for case in subset["train"] + subset["validation"]}
        assert by == "case" or not testing & learning
    tested = [len(subset["test"]) for subset in subsets]
    assert by == "group" or max(tested) - min(tested) <= 1


def test_folds_of_given_roles_or_of_too_few_cases_are_refused():
    roles = with_roles({"a": "train", "b": "validation", "c": "test"})
    with pytest.raises(PipelineError, match=r"split\.folds: found 2, but the data set gives roles"):
        split_cases(roles, Split(folds=2), 0)
    with pytest.raises(PipelineError, match=r"at least 4 for 4 folds; lower split\.folds"):
        split_cases(cohort_cases([5, 5, 5]), Split(by="group", folds=4), 0)
    with pytest.raises(PipelineError, match="found 5 cases, expected at least 6 for 6 folds"):
        split_cases(cohort_cases([5]), Split(folds=6), 0)


def test_the_file_says_that_its_subsets_are_folds_and_each_fold_s_mae_sees_no_tested_case(tmp_path):
    layout = Layout(tmp_path, "brain")
    fit = {"labelled": True, "slices": 2, "slices_with_lesion": [1], "empty_slices": []}
    cases = {name: {**case, **fit} for name, case in cohort_cases([4, 6, 3]).items()}
    cases["sound"] = {**fit, "group": "", "role": "healthy", "labelled": False}
    write_json(layout.cases, {"cases": cases})
    split(layout, Split(folds=4), 3)
    written = read_json(layout.split)
    assert written["folds"] == 4
    for number, roles in written["subsets"].items():
        learnt, validated = lesion_free_slices(layout, cases, int(number))
        assert {case for case, _ in learnt} == {*roles["train"], "sound"}
        assert {case for case, _ in validated} == set(roles["validation"])
        assert not {case for case, _ in learnt + validated} & set(roles["test"])
    split(layout, Split(), 3)
    assert "folds" not in read_json(layout.split)


def test_a_tenth_of_the_healthy_scans_validates_and_a_new_one_moves_few():
    scans = [f"s{number}" for number in range(30)]
    train, validation = healthy_roles(scans, 1)
    assert len(validation) == 3
    assert sorted(train + validation) == sorted(scans)
    assert healthy_roles(reversed(scans), 1) == (train, validation)
    more = healthy_roles([*scans, "new"], 1)[1]
    assert len(set(validation) - set(more)) <= 1
    assert [len(part) for part in healthy_roles(["a", "b"], 1)] == [1, 1]
    with pytest.raises(PipelineError, match="found 1 healthy scan, expected at least 2"):
        healthy_roles(["a"], 1)


@given(train=st.integers(1, 40), validation=st.integers(1, 40), seed=st.integers(0, 9))
def test_fewer_labelled_cases_are_among_more_and_the_same_share_validates(train, validation, seed):
    subset = {
        "train": [f"t{number:02}" for number in range(train)],
        "validation": [f"v{number:02}" for number in range(validation)],
        "test": ["x"],
    }
    whole, before = train + validation, None
    for wanted in range(2, whole + 1):
        chosen = Experiment(model="unet", labelled_cases=wanted)
        part = labelled_part(subset, "few", chosen, seed)
        assert len(part["train"]) + len(part["validation"]) == wanted
        assert part["test"] == ["x"]
        share = wanted * validation / whole
        assert abs(len(part["validation"]) - min(max(1, share), wanted - 1)) <= 0.5
        if before:
            assert all(set(before[role]) <= set(part[role]) for role in ROLES)
        before = part
    assert before in (None, subset)
    many = Experiment(model="unet", labelled_cases=whole + 1)
    with pytest.raises(
        PipelineError, match=rf"few\.labelled_cases: found {whole + 1}, expected at"
    ):
        labelled_part(subset, "few", many, seed)
