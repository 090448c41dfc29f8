"""The kernel of headless notebooks; apart from `lib.kernel`, because importing it marks a
process.

tqdm and `lib.artifacts.is_interactive` take one that has a kernel's shell for a notebook that a
person sees."""

from ipykernel.ipkernel import IPythonKernel


class PatientKernel(IPythonKernel):
    """Leaves as any Python does: workers end first, then those who tidy up after them.

    The usual kernel kills all its children at once and waits half a minute for them to be gone.
    """

    async def _progressively_terminate_all_children(self) -> None:
        pass
