"""What serving costs and how many machines it takes: a small physical model, a queue, a plan. NumPy and nothing else.

`cost` prices the work of a call from measurements (`pipeline bench cost`), `queueing` says how long requests wait for
instances that cost so much, `planning` chooses instances and machines (`pipeline doctor --plan`).
"""

from pipeline.capacity.cost import Call, Cost, Network, errors, fitted, memory_terms, time_terms
from pipeline.capacity.planning import Demand, Plan, make_plan, parse_demand
from pipeline.capacity.queueing import Station, Waiting, highest_rate, simulate

__all__ = [
    "Call",
    "Cost",
    "Demand",
    "Network",
    "Plan",
    "Station",
    "Waiting",
    "errors",
    "fitted",
    "highest_rate",
    "make_plan",
    "memory_terms",
    "parse_demand",
    "simulate",
    "time_terms",
]
