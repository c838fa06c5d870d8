"""Python's multiprocessing, measured as the meter of the bench does: bench.py PARENT WHAT BUDGET BATCH MOST_OPS.

Prints one line of JSON: nanoseconds of one operation for each batch, operations, nanoseconds of CPU.
"""

import json
import multiprocessing as mp
import os
import resource
import sys
import time


def die_with_parent(parent=None):
    """As the other processes of the bench do: nothing is left when a run is interrupted."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(1, 9)
    except (ImportError, AttributeError, OSError):
        pass  # the watchdog is still there
    if parent is not None and os.getppid() != parent:
        sys.exit("the parent died meanwhile")


def pin(side):
    cores = os.environ.get("BENCH_CORES")
    if cores:
        os.sched_setaffinity(0, {int(cores.split(",")[side])})


def children(pid):
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/children") as listed:
            yield from map(int, listed.read().split())


def waited_for_by(pid):
    """What the ended children of another process had used, in ticks: the fork server's."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(") ")[2].split()
    ticks = int(fields[16 - 3]) + int(fields[17 - 3])
    return ticks * 10**9 // os.sysconf("SC_CLK_TCK")


def cpu():
    """CPU of this process and all below it; None where the kernel does not list children."""
    try:
        total, processes = time.process_time_ns(), list(children("self"))
        while processes:
            pid = processes.pop()
            try:
                total += time.clock_gettime_ns((~pid << 3) | 2)  # the CPU clock of a process
                total += waited_for_by(pid)
                processes.extend(children(pid))
            except OSError:
                pass  # it has ended meanwhile
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return total + int((usage.ru_utime + usage.ru_stime) * 1e9)
    except OSError:
        return None


def measure(run, budget, batch, most_ops):
    ops = 1
    while True:
        took = quickest(run, ops, budget, batch, most_ops)
        if took * 2 >= batch or ops >= most_ops:
            ops = min(max(int(batch / took * ops), 1), most_ops)
            break
        ops = min(ops * 4, most_ops)
    before, start, batches = cpu(), time.perf_counter(), []
    while wants_more(len(batches), time.perf_counter() - start, budget):
        begun = time.perf_counter_ns()
        run(ops)
        batches.append((time.perf_counter_ns() - begun) / ops)
    used = None if before is None else cpu() - before
    print(json.dumps({"batches": batches, "ops": ops * len(batches), "cpu": used}))


def quickest(run, ops, budget, batch, most_ops):
    """Of up to three times, where one is too long: what starts only when it is first used says nothing about the next."""
    times = []
    while len(times) < 3:
        start = time.perf_counter()
        run(ops)
        times.append(time.perf_counter() - start)
        if times[-1] * 2 < batch or times[-1] >= budget or ops == most_ops:
            break
    return min(times)


def wants_more(batches, elapsed, budget):
    return not batches or elapsed < budget * 2 if batches < 3 else batches < 200 and elapsed < budget


class Each:
    """A loop that measures itself: each call gives nanoseconds."""

    def __init__(self, run, warm_up=20):
        self.run, self.warm_up = run, warm_up

    def measure(self, budget):
        begun = time.perf_counter()
        for _ in range(self.warm_up):
            self.run()
            if (time.perf_counter() - begun) * 4 >= budget:
                break
        before, start, batches = cpu(), time.perf_counter(), []
        while wants_more(len(batches), time.perf_counter() - start, budget):
            batches.append(self.run())
        used = None if before is None else cpu() - before
        print(json.dumps({"batches": batches, "ops": len(batches), "cpu": used}))


def switches():
    """Context switches of all threads of this process and of all below it, but for the one that looks."""
    total, processes, looks = 0, ["self"], str(os.getpid())
    while processes:
        pid = processes.pop()
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                if pid == "self" and thread == looks:
                    continue
                with open(f"/proc/{pid}/task/{thread}/status") as status:
                    total += sum(int(line.split()[1]) for line in status if "ctxt_switches:" in line)
            processes.extend(children(pid))
        except OSError:
            pass  # it has ended meanwhile
    return total


class Idle:
    """Nothing is to be done; as idle.rs."""

    def measure(self, _budget):
        time.sleep(0.5)
        used, switched = cpu(), switches()
        time.sleep(2)
        after = switches()
        used = max(1, cpu() - used)
        print(json.dumps({"batches": [used], "ops": 1, "cpu": None, "switches": after - switched}))


def nothing():
    die_with_parent()


PLAIN, ANSWER, STOP = (bytes([mark]) for mark in (1, 2, 3))


def serve(recv, send):
    die_with_parent()
    pin(1)
    while True:
        message = recv()
        if message[:1] == ANSWER:
            send(message[:64])
        elif message[:1] == STOP:
            return


def serve_pipe(end):
    serve(end.recv_bytes, end.send_bytes)


def serve_queues(there, here):
    serve(there.get, here.put)


def serve_fifo(there, here):
    """Its own time-out is ten seconds; ours are the watchdog's."""
    serve(lambda: there.get(timeout=10), lambda message: here.put(message, timeout=10))


def start(method):
    context = mp.get_context(method)

    def run(n):
        for _ in range(n):
            process = context.Process(target=nothing)
            process.start()
            process.join()

    return run, lambda: None


def linked(kind, loop, size=64):
    context = mp.get_context("fork")
    if kind == "pipe":
        here, there = context.Pipe()
        process = context.Process(target=serve_pipe, args=(there,), daemon=True)
        send, recv = here.send_bytes, here.recv_bytes
    elif kind == "fifo":
        from faster_fifo import Queue

        room = max(1 << 20, 2 * size + (1 << 16))
        to, back = Queue(max_size_bytes=room), Queue(max_size_bytes=1 << 20)
        process = context.Process(target=serve_fifo, args=(to, back), daemon=True)
        send, recv = (lambda message: to.put(message, timeout=10)), (lambda: back.get(timeout=10))
    else:
        to, back = context.Queue(), context.Queue()
        process = context.Process(target=serve_queues, args=(to, back), daemon=True)
        send, recv = to.put, back.get
    process.start()

    def end():
        send(STOP)
        process.join()

    return (loop(send, recv) if loop is round_trip else loop(send, recv, size)), end


def round_trip(send, recv):
    message = ANSWER + b"Z" * 7

    def run(n):
        for _ in range(n):
            send(message)
            recv()

    return run


def stream(send, recv, size=64):
    plain, ask = PLAIN + b"Z" * (size - 1), ANSWER + b"Z" * (size - 1)

    def run(n):
        for _ in range(n - 1):
            send(plain)
        send(ask)
        recv()

    return run


def bytes_of_64(mark):
    return bytes([mark]) + b"Z" * 63


def values(mark):
    return mark, "a string of some length", [1.25] * 16


def send_as_told(queue, go, message, side):
    die_with_parent()
    pin(side)
    while count := go.get():
        send_many(queue, count, message)


def send_many(queue, count, message):
    plain = message(1)
    for _ in range(count - 1):
        queue.put(plain)
    queue.put(message(2))


def take_all(queue, taken, side):
    die_with_parent()
    pin(side)
    while True:
        mark = queue.get()[0]
        if mark != 1:
            taken.put(mark)
        if mark == 3:
            return


def many(pairs, message):
    context = mp.get_context("fork")
    queue, go, taken = context.Queue(1024), context.Queue(), context.Queue()
    others = [
        context.Process(target=send_as_told, args=(queue, go, message, side % 2), daemon=True)
        for side in range(1, pairs)
    ]
    others += [
        context.Process(target=take_all, args=(queue, taken, side % 2), daemon=True) for side in range(pairs)
    ]
    for process in others:
        process.start()

    def run(n):
        share = max(n // pairs, 1)
        for _ in range(1, pairs):
            go.put(share)
        send_many(queue, max(n - share * (pairs - 1), 1), message)
        for _ in range(pairs):
            taken.get()

    def end():
        for _ in range(1, pairs):
            go.put(0)
        for _ in range(pairs):
            queue.put(message(3))
            taken.get()
        for process in others:
            process.join()

    return run, end


def lock():
    one = mp.get_context("fork").Lock()

    def run(n):
        for _ in range(n):
            one.acquire()
            one.release()

    return run, lambda: None


def fetch_add():
    value = mp.get_context("fork").Value("Q", 0)

    def run(n):
        for _ in range(n):
            with value.get_lock():
                value.value += 1

    return run, lambda: None


def attach():
    from multiprocessing.shared_memory import SharedMemory

    memory = SharedMemory(create=True, size=4096)

    def run(n):
        for _ in range(n):
            attached = SharedMemory(memory.name)
            attached.buf[0]
            attached.close()

    def end():
        memory.close()
        memory.unlink()

    return run, end


SIZES = [8, 64, 1 << 10, 1 << 16, 1 << 20, 64 << 20]
WHAT = {
    f"stream-{kind}-{size}": (lambda kind=kind, size=size: linked(kind, stream, size))
    for kind in ("pipe", "queue", "fifo")
    for size in SIZES
} | {
    "start-fork": lambda: start("fork"),
    "start-forkserver": lambda: start("forkserver"),
    "start-spawn": lambda: start("spawn"),
    "round-trip-pipe": lambda: linked("pipe", round_trip),
    "round-trip-queue": lambda: linked("queue", round_trip),
    "stream-pipe": lambda: linked("pipe", stream),
    "stream-2x2": lambda: many(2, bytes_of_64),
    "stream-8x8": lambda: many(8, bytes_of_64),
    "stream-2x2-typed": lambda: many(2, values),
    "stream-queue": lambda: linked("queue", stream),
    "lock": lock,
    "fetch-add": fetch_add,
    "attach": attach,
}

if __name__ == "__main__":
    sys.modules["bench"] = sys.modules["__main__"]  # under the name that the others import it by
    parent, what, budget, batch, most_ops = sys.argv[1:]
    die_with_parent(int(parent))
    pin(0)
    import pools  # it needs this module, which is only now complete

    loop, end = (WHAT | pools.WHAT)[what]()
    if isinstance(loop, (Each, Idle)):
        loop.measure(float(budget))
    else:
        measure(loop, float(budget), float(batch), int(most_ops))
    end()
