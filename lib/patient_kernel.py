"""The kernel of headless notebooks.

Not in `lib.kernel`: tqdm and `lib.artifacts.is_interactive` take a process that has imported
ipykernel for a notebook that a person sees.
"""

import atexit
import gc

from ipykernel.ipkernel import IPythonKernel

# Looking for unreachable objects among half a million takes a second and more of every end.
atexit.register(gc.freeze)


class PatientKernel(IPythonKernel):
    """Ends as any Python does; the usual kernel kills all its child processes at once."""

    async def _progressively_terminate_all_children(self) -> None:
        pass

    def start(self) -> None:
        """Start, and let an asked end come after its answer.

        The usual kernel closes its channels while another thread still answers, and then waits ten
        seconds or for ever: one end in six.
        """
        super().start()
        atexit.register(lambda: self._shutdown_message and self.control_thread.join())
