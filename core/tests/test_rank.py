"""The order of proven candidates: total, the same however they come in, and never topped by a slow one."""

import assay
from assay.config import OpConfig
from assay.contract.candidate import Candidate, Distribution
from assay.contract.naming import selects
from assay.negotiation.rank import MARGIN, VETO, rank
from hypothesis import given, settings
from hypothesis import strategies as st


def candidate(name, priority=20, seconds=1.0, distribution="assay-x"):
    implementation = assay.Implementation(op="double", name=name, priority=priority, kernel="x:y")
    return Candidate(implementation, Distribution(distribution, "1.0"), seconds=seconds)


names = st.lists(st.from_regex(r"[a-e][a-e0-3]{0,2}", fullmatch=True), min_size=1, max_size=8, unique=True)
times = st.one_of(st.none(), st.floats(1e-6, 1.0))
priorities = st.sampled_from([0, 20, 20, 40, 60])


@st.composite
def fields(draw):
    return [
        (name, draw(priorities), draw(times), draw(st.sampled_from(["assay-x", "assay-y"])))
        for name in draw(names)
    ]


demands = st.builds(
    OpConfig, prefer=st.lists(st.sampled_from(["a*", "b", "*1", "e*"]), max_size=2).map(tuple)
)
ways = st.sampled_from(["auto", "priority", "measured"])


def order(given_fields, demand, select):
    return rank([candidate(*one) for one in given_fields], demand, select)


@settings(deadline=None)
@given(fields(), demands, ways, st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_how_they_come_in(given_fields, demand, select, random):
    """Everyone is in it once, and a shuffle changes nothing."""
    shuffled = list(given_fields)
    random.shuffle(shuffled)
    ids = [one.id for one in order(given_fields, demand, select)]

    assert sorted(ids) == sorted(f"double.{one[0]}" for one in given_fields)
    assert ids == [one.id for one in order(shuffled, demand, select)]


@settings(deadline=None)
@given(fields(), demands)
def test_nobody_is_ahead_of_one_who_is_so_much_faster(given_fields, demand):
    """Unless the configuration prefers it."""
    ranked = order(given_fields, demand, "auto")
    for place, ahead in enumerate(ranked):
        if ahead.seconds is None or any(selects(pattern, ahead.id) for pattern in demand.prefer):
            continue
        for behind in ranked[place + 1 :]:
            assert behind.seconds is None or ahead.seconds < VETO * behind.seconds


@settings(deadline=None)
@given(fields(), ways)
def test_the_preferred_come_first_in_the_order_of_preference(given_fields, select):
    """However slow they are, and whatever their priority."""
    preferred = [f"double.{one[0]}" for one in reversed(given_fields[:2])]
    demand = OpConfig(prefer=tuple(preferred))
    assert [one.id for one in order(given_fields, demand, select)][: len(preferred)] == preferred


@settings(deadline=None)
@given(fields())
def test_by_priority_figures_count_for_nothing(given_fields):
    """Priority, then distribution, then name."""
    ranked = order(given_fields, OpConfig(), "priority")
    keys = [(-one.implementation.priority, one.distribution.name, one.implementation.name) for one in ranked]
    assert keys == sorted(keys)


@settings(deadline=None)
@given(fields())
def test_by_measure_nobody_serves_who_is_slower_than_the_margin(given_fields):
    """Within the margin, priority decides; who has no figure comes after all who have."""
    ranked = order(given_fields, OpConfig(), "measured")
    known = [one.seconds for one in ranked if one.seconds is not None]
    if known:
        assert ranked[0].seconds is not None
        assert ranked[0].seconds <= MARGIN * min(known)
    assert [one.seconds is None for one in ranked] == sorted(one.seconds is None for one in ranked)


def test_a_slow_one_steps_behind_and_says_so():
    """With the factor, the faster one's name, and how to overrule it."""
    slow, fast = candidate("npu", 80, 3e-3), candidate("numpy", 20, 1e-3)
    assert rank([slow, fast], OpConfig(), "auto") == [fast, slow]
    assert slow.reasons[0].code is assay.ReasonCode.VETOED
    assert slow.reasons[0].message == "3.0 times slower than double.numpy, so it steps behind it"
    assert slow.reasons[0].remedy == 'prefer = ["npu"] overrules the measurement'
    assert fast.verdict is assay.Verdict.CHOSEN


def test_just_below_the_veto_priority_decides():
    """1.49 times slower is near enough."""
    slow, fast = candidate("npu", 80, 1.49e-3), candidate("numpy", 20, 1e-3)
    assert rank([slow, fast], OpConfig(), "auto") == [slow, fast]


def test_who_has_no_figure_is_neither_passed_over_nor_passes_anyone_over():
    """Its domain does not hold the standard workload."""
    unknown, fast = candidate("npu", 80, None), candidate("numpy", 20, 1e-3)
    assert rank([unknown, fast], OpConfig(), "auto") == [unknown, fast]
