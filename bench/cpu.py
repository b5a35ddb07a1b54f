"""CPU seconds, where the clock on the wall only tells how much else the machine has to do."""

import psutil


def family_s(pid: int | None) -> float:
    """Of a process and all its descendants since they began, those that have ended among them; 0 for a process that is not ours."""
    if pid is None:
        return 0.0
    head = psutil.Process(pid)
    return sum(_own_s(each) for each in (head, *head.children(recursive=True)))


def _own_s(process: psutil.Process) -> float:
    """With the children that have ended: those that live are asked themselves."""
    try:
        return float(sum(process.cpu_times()[:4]))
    except psutil.NoSuchProcess:  # counted by its parent by now, or never
        return 0.0
