"""Work in a thread beside the decoding: text and writing of a batch, while the next one is decoded."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

Task = Callable[[], None]


class Background:
    """Runs tasks in a thread, in the order in which they are given; their first error is raised where the next one is given.

    Args:
        ahead: tasks that may wait; who gives one more waits for the thread.

    Attributes:
        seconds: CPU time of the thread so far.
    """

    def __init__(self, ahead: int = 4):
        self.seconds = 0.0
        self._tasks: queue.Queue[Task | None] = queue.Queue(ahead)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                if self._error is None:  # after an error nothing more is done
                    task()
            except BaseException as error:  # raised in the thread that gave the task
                self._error = error
            finally:
                self.seconds = time.thread_time()
                self._tasks.task_done()
        self._tasks.task_done()

    def give(self, task: Task) -> None:
        """Let the thread run a task.

        Raises:
            BaseException: what an earlier task raised.
        """
        self._raise()
        self._tasks.put(task)

    def wait(self) -> None:
        """Return when all tasks are done.

        Raises:
            BaseException: what one of them raised.
        """
        self._tasks.join()
        self._raise()

    def close(self) -> None:
        """Wait for all tasks and end the thread; a second call does nothing.

        Raises:
            BaseException: what a task raised.
        """
        if self._thread.is_alive():
            self._tasks.put(None)
            self._thread.join()
        self._raise()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error
