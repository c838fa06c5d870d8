"""The pools: multiprocessing.Pool, concurrent.futures, loky."""

import multiprocessing as mp
import os
import time
from concurrent.futures import ProcessPoolExecutor

from bench import Each, die_with_parent

CORES = len(os.sched_getaffinity(0))
TASK_NS = 100_000


def same(argument):
    return argument


def busy(argument):
    """Of this process's own CPU time, as the others' tasks."""
    until = time.thread_time_ns() + TASK_NS
    while time.thread_time_ns() < until:
        pass
    return argument


def check(results):
    for number, result in enumerate(results):
        if number != result:
            raise ValueError("a wrong result")


def pool(method="fork"):
    return mp.get_context(method).Pool(CORES, die_with_parent)


def executor():
    return ProcessPoolExecutor(CORES, mp.get_context("fork"), die_with_parent)


def loky():
    from loky import ProcessPoolExecutor as LokyExecutor

    return LokyExecutor(CORES, initializer=die_with_parent)


def one():
    workers = pool()

    def run(n):
        for argument in range(n):
            workers.apply(same, (argument,))

    return run, workers.terminate


def one_by_one(function):
    workers = pool()

    def run(n):
        check([result.get() for result in [workers.apply_async(function, (argument,)) for argument in range(n)]])

    return run, workers.terminate


def mapped(function):
    """With the chunks that it chooses."""
    workers = pool()
    return lambda n: check(workers.map(function, range(n))), workers.terminate


def executed(workers, function):
    """An executor chooses no chunks: with those that Python's Pool would choose."""

    def run(n):
        check(list(workers.map(function, range(n), chunksize=max(1, n // (4 * CORES)))))

    return run, workers.shutdown


def start(make, first, end):
    def run():
        begun = time.perf_counter_ns()
        workers = make()
        first(workers)
        took = time.perf_counter_ns() - begun
        end(workers)
        return took

    return Each(run), lambda: None


def start_pool(method):
    def end(workers):
        workers.terminate()
        workers.join()

    return start(lambda: pool(method), lambda workers: workers.apply(same, (7,)), end)


def start_executor(make):
    return start(make, lambda workers: workers.submit(same, 7).result(), lambda workers: workers.shutdown())


WHAT = {
    "pool-one": one,
    "pool-stream": lambda: one_by_one(same),
    "pool-chunks": lambda: mapped(same),
    "executor-chunks": lambda: executed(executor(), same),
    "loky-chunks": lambda: executed(loky(), same),
    "pool-busy-chunks": lambda: mapped(busy),
    "pool-busy-one": lambda: one_by_one(busy),
    "executor-busy": lambda: executed(executor(), busy),
    "loky-busy": lambda: executed(loky(), busy),
    "pool-start-fork": lambda: start_pool("fork"),
    "pool-start-forkserver": lambda: start_pool("forkserver"),
    "executor-start": lambda: start_executor(executor),
    "loky-start": lambda: start_executor(loky),
}
