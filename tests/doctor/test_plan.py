import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.capacity import Cost, Demand, Network, make_plan, parse_demand
from pipeline.commands import main
from pipeline.errors import PipelineError, UsageError

PRICES = {"call": 1e-4, "load": 0, "step": 0, "weight": 3e-11, "operation": 1e-11, "unit": 0, "byte": 2e-8, "row": 1e-5}
COST = Cost(
    name="opinions",
    network=Network(layers=((256, 256),), directions=2, gates=4, vocabulary=30_000, file_bytes=35 * 2**20),
    seconds={1: PRICES, 2: {name: 0.7 * price for name, price in PRICES.items()}},
    missed={1: 1.07, 2: 1.2},
    memory={"session": 10e6, "file_byte": 1.2, "token": 600, "activation_byte": 1.2},
    process_bytes=50 * 2**20,
    crowding=1.1,
    cores=4,
    lengths=(5, 20, 60, 200, 400),
    bytes_per_token=5.0,
    max_tokens=500,
    max_batch_size=64,
)
DEMAND = Demand(rate=500, p99=0.1, tokens=100)


@pytest.fixture
def cost_file(tmp_path: Path) -> Path:
    path = tmp_path / "cost.json"
    path.write_text(json.dumps(asdict(COST)))
    return path


def doctor(plan: str, *words: object) -> Result:
    return CliRunner().invoke(main, ["doctor", "--plan", plan, *map(str, words)])


def test_a_cost_model_comes_back_from_its_file(cost_file: Path) -> None:
    assert Cost.load(cost_file) == COST


def test_every_key_of_a_demand_is_read() -> None:
    wanted = Demand(rate=12.5, p99=0.05, tokens=200, cores=8, memory=1.5 * 2**30, overhead=3e-4)
    assert parse_demand("rate=12.5, p99=50ms, tokens=200,cores=8,memory=1536MiB,overhead=300us") == wanted
    assert parse_demand("p99=2s,rate=1") == Demand(rate=1, p99=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'': wanted KEY=VALUE, the key one of rate, p99, tokens"),
        ("rate", "'rate': wanted KEY=VALUE"),
        ("rate=500", "no p99: wanted at least rate=500,p99=50ms"),
        ("tokens=5", "no rate and no p99"),
        ("rate=500,p99=50", "p99=50: wanted a number above 0, such as p99=50s or p99=50ms"),
        ("rate=500,p99=50m", "p99=50m: wanted"),
        ("rate=-5,p99=50ms", "rate=-5: wanted a number above 0"),
        ("rate=0,p99=50ms", "rate=0: wanted a number above 0"),
        ("rate=nan,p99=50ms", "rate=nan: wanted"),
        ("rate=5,rate=6,p99=1s", "rate is given twice"),
        ("rate=5,p99=1s,tokens=1.5", "tokens=1.5: wanted a whole number from 1 to 1,000,000"),
        ("rate=5,p99=1s,cores=0", "cores=0: wanted a whole number from 1 to 1,024"),
        ("rate=5,p99=1s,memory=2GB", "memory=2GB: wanted a number above 0, such as memory=50GiB"),
        (f"rate={'9' * 400},p99=1s", "wanted a number above 0"),
        ("rate=5,p99=1s,machines=3", "'machines=3': wanted KEY=VALUE"),
    ],
)
def test_a_demand_that_is_none_is_refused(text: str, message: str, cost_file: Path) -> None:
    result = doctor(text, "--cost", cost_file)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_machines_follow_the_rule_of_the_page_on_capacity() -> None:
    plan = make_plan(COST, DEMAND)
    assert plan.machines == math.ceil(500 / (0.7 * plan.rate_within_p99)) + 1
    assert plan.rate_planned == pytest.approx(500 / (plan.machines - 1))
    assert plan.p50 < plan.p99 <= DEMAND.p99
    assert plan.rate_within_p99 <= plan.rate_at_limit
    assert plan.instances * plan.threads == COST.cores
    assert sum(plan.shares.values()) == pytest.approx(1)


def test_more_is_never_planned_with_fewer_machines() -> None:
    def machines(**changes: float) -> int:
        return make_plan(COST, replace(DEMAND, **changes)).machines

    by_rate = [machines(rate=rate) for rate in (1, 300, 3000, 30_000)]
    assert by_rate == sorted(by_rate)
    assert by_rate[0] == 2, "one carries the load, one is spare"
    assert by_rate[-1] > 10 * (by_rate[1] - 1)
    by_bound = [machines(rate=3000, p99=p99) for p99 in (0.02, 0.1, 1)]
    assert by_bound == sorted(by_bound, reverse=True)
    assert by_bound[0] > by_bound[-1]
    by_cores = [machines(rate=3000, cores=cores) for cores in (1, 2, 8)]
    assert by_cores == sorted(by_cores, reverse=True)
    by_overhead = [machines(rate=3000, overhead=overhead) for overhead in (0, 1e-3)]
    assert by_overhead == sorted(by_overhead)
    assert by_overhead[0] < by_overhead[-1]


def test_a_tight_bound_is_met_by_threads_and_a_wide_one_by_instances() -> None:
    alone = COST.call_seconds(1, 1, 100) * COST.crowding
    tight = make_plan(COST, replace(DEMAND, p99=0.9 * alone))
    wide = make_plan(COST, replace(DEMAND, p99=1))
    assert (tight.instances, tight.threads, tight.limited_by) == (2, 2, "p99")
    assert (wide.instances, wide.threads, wide.limited_by) == (4, 1, "processor")


def test_without_a_length_the_runs_own_lengths_are_planned_for() -> None:
    plan = make_plan(COST, replace(DEMAND, tokens=None, p99=1))
    short, long = (make_plan(COST, replace(DEMAND, tokens=tokens, p99=1)) for tokens in (5, 400))
    assert plan.tokens == 60
    assert long.rate_within_p99 <= plan.rate_within_p99 < short.rate_within_p99


def test_a_bound_that_no_machine_keeps_is_refused_in_one_line(cost_file: Path) -> None:
    with pytest.raises(PipelineError, match=r"p99=1ms: no number of machines will do: .*opinions already takes"):
        make_plan(COST, replace(DEMAND, p99=1e-3))
    result = doctor("rate=1,p99=1ms,tokens=100", "--cost", cost_file)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    taken = float(result.stderr.split("already takes ")[1].split(" ms")[0])
    assert doctor(f"rate=1,p99={taken * 1.05:.3f}ms,tokens=100", "--cost", cost_file).exit_code == 0


def test_memory_bounds_the_instances() -> None:
    free = make_plan(COST, replace(DEMAND, cores=64, p99=1))
    some = make_plan(COST, replace(DEMAND, cores=64, p99=1, memory=16 * free.instance_bytes))
    assert (free.instances, some.instances) == (64, 8)
    assert some.memory_limit <= 16 * free.instance_bytes
    assert some.limited_by == "memory"
    with pytest.raises(PipelineError, match=r"memory=2.00GiB: too little for 2 instances; wanted"):
        make_plan(replace(COST, process_bytes=2**30), replace(DEMAND, memory=2**31))


def test_a_text_longer_than_the_model_reads_is_refused() -> None:
    with pytest.raises(UsageError, match=r"tokens=501: opinions cuts a text at 500 tokens"):
        make_plan(COST, replace(DEMAND, tokens=501))


def test_the_queue_holds_what_can_still_be_answered_in_time() -> None:
    plan = make_plan(COST, DEMAND)
    seconds = COST.call_seconds(plan.threads, 1, 100) * COST.crowding
    assert plan.max_queue_size == math.ceil(plan.rate_within_p99 * (DEMAND.p99 - seconds))


def test_the_command_prints_the_plan_and_the_settings_that_publish_takes(cost_file: Path) -> None:
    result = doctor("rate=500,p99=100ms,tokens=100", "--cost", cost_file)
    assert result.exit_code == 0, result.output
    plan = make_plan(COST, DEMAND)
    lines = result.stdout.splitlines()
    assert f"machines      {plan.machines} of 4 core(s), one of them to spare" in lines
    assert f"cost model    missed calls that it never saw by × {COST.missed[plan.threads]:.2f} in the median" in lines
    assert lines[-1] == (
        f"pipeline publish RUN --set publish.instances={plan.instances} --set publish.threads={plan.threads} "
        f"--set publish.max_queue_size={plan.max_queue_size}"
    )
    printed = json.loads(doctor("rate=500,p99=100ms,tokens=100", "--cost", cost_file, "--json").stdout)
    assert printed == asdict(plan)


def test_a_cost_model_that_is_not_there_or_damaged_is_told(tmp_path: Path, cost_file: Path) -> None:
    result = doctor("rate=1,p99=1s", "--cost", tmp_path / "none.json")
    assert (result.exit_code, "none.json: no such file. Make it with `pipeline bench cost RUN`" in result.stderr) == (
        2,
        True,
    )
    cost_file.write_text(cost_file.read_text().replace('"crowding"', '"crowd"'))
    result = doctor("rate=1,p99=1s", "--cost", cost_file)
    assert (result.exit_code, "not a cost model (KeyError('crowding'))" in result.stderr) == (1, True)
