"""The kernel of headless notebooks.

It is not in `lib.kernel`, because tqdm and `lib.artifacts.is_interactive` take a process that has
imported ipykernel's shell for a notebook that a person sees.
"""

from ipykernel.ipkernel import IPythonKernel


class PatientKernel(IPythonKernel):
    """Ends as any Python does: worker processes first, then the helpers that clean up after them.

    The usual kernel kills all its children at once and waits half a minute for them to be gone.
    """

    async def _progressively_terminate_all_children(self) -> None:
        pass
