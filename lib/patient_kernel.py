"""The kernel of headless notebooks.

Not in `lib.kernel`: tqdm and `lib.artifacts.is_interactive` take a process that has imported
ipykernel for a notebook that a person sees.
"""

from ipykernel.ipkernel import IPythonKernel


class PatientKernel(IPythonKernel):
    """Ends as any Python does; the usual kernel kills all its child processes at once."""

    async def _progressively_terminate_all_children(self) -> None:
        pass
