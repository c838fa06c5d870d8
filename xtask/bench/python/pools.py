"""The pools: multiprocessing.Pool, concurrent.futures, loky."""

import multiprocessing as mp
import os
import time
from concurrent.futures import ProcessPoolExecutor

from bench import Each, Idle, die_with_parent

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


def hang(path):
    with open(path, "w") as said:
        said.write(str(os.getpid()))
    time.sleep(3600)


def kill(make):
    """A pool that lost a process is broken."""
    path = f"/tmp/bench-python-{os.getpid()}"

    def run():
        workers = make()
        task, pid = workers.submit(hang, path), ""
        while not pid:
            time.sleep(0.0002)
            if os.path.exists(path):
                with open(path) as said:
                    pid = said.read()
        os.unlink(path)
        killed = time.perf_counter_ns()
        os.kill(int(pid), 9)
        error = task.exception()
        took = time.perf_counter_ns() - killed
        if error is None:
            raise ValueError("a killed task gave a result")
        workers.shutdown()
        return took

    return Each(run, warm_up=1), lambda: None


MIB = b"Z" * (1 << 20)


def echo(call, end):
    def run(n):
        for _ in range(n):
            call(MIB)

    return run, end


def echo_pool():
    workers = pool()
    return echo(lambda message: workers.apply(same, (message,)), workers.terminate)


def echo_executor():
    workers = executor()
    return echo(lambda message: workers.submit(same, message).result(), workers.shutdown)


def idle_pool():
    workers = pool()
    check(workers.map(same, range(1000)))
    return Idle(), workers.terminate


def idle_executor(workers):
    check(list(workers.map(same, range(100))))
    return Idle(), workers.shutdown


WHAT = {
    "executor-kill": lambda: kill(executor),
    "loky-kill": lambda: kill(loky),
    "pool-echo": echo_pool,
    "executor-echo": echo_executor,
    "pool-idle": idle_pool,
    "executor-idle": lambda: idle_executor(executor()),
    "loky-idle": lambda: idle_executor(loky()),
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
