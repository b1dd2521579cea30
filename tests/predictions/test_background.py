"""Work in a thread: its order, its errors, its end."""

from __future__ import annotations

import threading
import time

import pytest

from parlab.errors import UserError
from parlab.predictions.background import Background


def test_tasks_run_in_order_in_another_thread() -> None:
    done: list[tuple[int, int]] = []
    thread = Background(ahead=2)
    for i in range(20):
        thread.give(lambda i=i: done.append((i, threading.get_ident())))  # type: ignore[misc]
    thread.wait()
    assert [i for i, _ in done] == list(range(20))
    assert {ident for _, ident in done} != {threading.get_ident()}
    thread.close()


def test_closing_does_what_is_left() -> None:
    done: list[int] = []
    thread = Background(ahead=10)
    for i in range(5):
        thread.give(lambda i=i: (time.sleep(0.02), done.append(i)))  # type: ignore[misc, func-returns-value]
    thread.close()
    thread.close()
    assert done == list(range(5))


def test_few_tasks_wait() -> None:
    """Who gives more than may wait, waits; so results never pile up in memory."""
    go = threading.Event()
    thread = Background(ahead=1)
    thread.give(go.wait)  # type: ignore[arg-type]
    thread.give(lambda: None)
    third = threading.Thread(target=thread.give, args=(lambda: None,))
    third.start()
    third.join(0.2)
    assert third.is_alive()
    go.set()
    third.join(10)
    assert not third.is_alive()
    thread.close()


def test_an_error_is_raised_where_the_next_task_is_given() -> None:
    def full() -> None:
        raise UserError("the disk is full")

    done: list[int] = []
    thread = Background()
    thread.give(full)
    with pytest.raises(UserError, match="the disk is full"):
        thread.wait()
    thread.give(full)
    thread.give(lambda: done.append(1))
    with pytest.raises(UserError, match="the disk is full"):
        thread.close()
    assert done == []  # nothing is done after an error
    thread.close()


def test_its_cpu_time_is_counted() -> None:
    thread = Background()
    thread.give(lambda: sum(range(10**6)))  # type: ignore[arg-type, return-value]
    thread.wait()
    assert thread.seconds > 0.001
    thread.close()
