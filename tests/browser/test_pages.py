"""What a person sees in a browser: the explorers in JupyterLab, and the page of `run_all.sh demo`.

Not part of the suite, because it takes minutes and a browser: `./run_all.sh test tests/browser`
after `pip install selenium gradio` and, on Debian, `apt-get install chromium chromium-driver`.
Set SCREENSHOTS to a folder to look at what was tested.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from lib import pipeline
from lib.artifacts import ROOT

webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium")


BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
WIDTH, HEIGHT = 1280, 800
PATIENCE = 300  # seconds for anything on a busy machine

pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER),
    reason="needs chromium and chromedriver: apt-get install chromium-driver",
)

# The panel that is shown, as JupyterLab's own commands see it.
IS_IDLE = (
    "window.jupyterapp?.shell.currentWidget?.context?.sessionContext.session?.kernel?.status"
    " === 'idle'"
)
PANEL = "const panel = window.jupyterapp.shell.currentWidget; "
PICTURE = "img.widget-image"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """The outputs of a finished run of the profile smoke; LANDMARK_OUTPUTS where it has one."""
    given = os.environ.get("LANDMARK_OUTPUTS")
    with pytest.MonkeyPatch.context() as patch:
        if not (given and (Path(given) / "smoke" / "submission.csv").is_file()):
            patch.setenv("LANDMARK_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
            for number in ("02", "03", "04", "06"):
                quick = {"COMPARE": False, "LOCAL": ""} if number == "06" else {}
                pipeline.run("smoke", only=number, parameters=quick)
        yield Path(os.environ["LANDMARK_OUTPUTS"])


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for option in ("--headless=new", "--no-sandbox", f"--window-size={WIDTH},{HEIGHT}"):
        options.add_argument(option)
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(PATIENCE)
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False},
    )
    yield driver
    driver.quit()


@contextmanager
def server(command, port, log):
    """A server on a local port, ended at the end."""
    with open(log, "w") as stream:
        process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT)
    try:
        wait(lambda: answers(port), f"an answer of {command[3]}", log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENCE)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def answers(port):
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=5).status == 200
    except OSError:
        return False


def wait(condition, what, log=None):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    told = Path(log).read_text()[-2000:] if log else ""
    raise AssertionError(f"expected {what} within {PATIENCE} s, found none\n{told}")


def screenshot(browser, name):
    if folder := os.environ.get("SCREENSHOTS"):
        browser.save_screenshot(str(Path(folder) / f"{name}.png"))


@pytest.fixture(scope="module")
def lab(outputs, tmp_path_factory):
    """JupyterLab as `./run_all.sh lab` starts it, on copies of the notebooks that run smoke."""
    folder = tmp_path_factory.mktemp("notebooks")
    for path in pipeline.notebooks():
        text, count = re.subn(r'(PROFILE: str = \\")mini', r"\1smoke", path.read_text())
        assert count == 1
        text = text.replace("COMPARE: bool = True", "COMPARE: bool = False")
        (folder / path.name).write_text(text)
    port = free_port()
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root"]
    command += ["--notebook-dir", str(folder), f"--port={port}", "--IdentityProvider.token="]
    command += ["--ServerApp.kernel_spec_manager_class=lib.kernel.RunningPython"]
    command += ["--LabApp.expose_app_in_browser=True", "--ServerApp.port_retries=0"]
    command += ["--LabApp.news_url=None"]
    with server(command, port, folder / "log") as address:
        yield address


def run_all(browser, lab, notebook):
    """Open a notebook, run all its cells and scroll to its widget."""
    browser.get(f"{lab}/lab/workspaces/{notebook}/tree/{notebook}.ipynb?reset")
    wait(lambda: browser.execute_script(f"return {IS_IDLE}"), "a kernel")
    browser.execute_script("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    cell = wait(lambda: browser.execute_script(f"""
        {PANEL}
        const cells = panel.content.model.cells;
        for (let i = 0; i < cells.length; i++) {{
            const one = cells.get(i);
            if (one.type !== "code") continue;
            for (let j = 0; j < one.outputs.length; j++) {{
                const output = one.outputs.get(j);
                if (output.type === "error") return output.toJSON().evalue;
                if (output.data["application/vnd.jupyter.widget-view+json"]) return i;
            }}
        }}
    """), f"a widget in {notebook}")  # fmt: skip
    assert isinstance(cell, int), cell
    browser.execute_async_script(f"""
        const done = arguments[0]; {PANEL}
        panel.content.activeCellIndex = {cell};
        panel.content.scrollToItem({cell}, "start").then(() => done(), () => done());
    """)
    wait(lambda: browser.find_elements("css selector", PICTURE), "its picture")
    wait(lambda: browser.execute_script(f"return {IS_IDLE}"), "the end of the notebook")


WATCH = """
const picture = arguments[0];
window.changed = [];
window.released = [];
new MutationObserver(() => window.changed.push(performance.now()))
    .observe(picture, {attributes: true, attributeFilter: ["src"]});
addEventListener("pointerup", () => window.released.push(performance.now()), true);
"""
SCROLL = "arguments[0].parentElement.scrollIntoView({block: 'center'})"
BOX = "return arguments[0].getBoundingClientRect().toJSON()"


def is_in_sight(browser, element):
    """Whether an element is in the window between JupyterLab's bars and stays there."""
    browser.execute_script(SCROLL, element)
    time.sleep(1)  # pictures above it may still come and move it
    box = browser.execute_script(BOX, element)
    return 90 < box["top"] < box["bottom"] < HEIGHT - 25 and box["right"] < WIDTH


def drag(browser, handle, step):
    """Seconds from the end of a drag to the last change of the picture, which must come."""
    browser.execute_script("window.changed = []; window.released = []")
    action = webdriver.ActionChains(browser, duration=300)
    action.click_and_hold(handle).move_by_offset(step, 0).release().perform()
    wait(lambda: browser.execute_script("return window.changed.length > 0"), "another picture")
    wait(lambda: browser.execute_script(f"return {IS_IDLE}"), "the end of drawing")
    time.sleep(0.5)
    return browser.execute_script("return (changed.at(-1) - released.at(-1)) / 1000")


@pytest.mark.parametrize(
    ("notebook", "count"), [("03_dbscan_cleaning", 1), ("06_submission_reranking", 2)]
)
def test_explorer_fits_on_the_screen_and_follows_its_sliders(browser, lab, notebook, count):
    run_all(browser, lab, notebook)
    picture = browser.find_element("css selector", PICTURE)
    sliders = browser.find_elements("css selector", ".noUi-handle")
    assert len(sliders) == count
    browser.execute_script(WATCH, picture)
    wait(lambda: picture.get_property("naturalWidth"), "a decoded picture")
    wait(lambda: is_in_sight(browser, picture), "the picture in the window")
    screenshot(browser, notebook)

    natural = [picture.get_property(f"natural{side}") for side in ("Width", "Height")]
    size = picture.size["width"], picture.size["height"]
    assert size[1] <= 0.6 * HEIGHT
    assert size[0] / size[1] == pytest.approx(natural[0] / natural[1], rel=0.01)
    boxes = [browser.execute_script(BOX, one) for one in (picture, *sliders)]
    assert min(box["top"] for box in boxes) > 90  # all between JupyterLab's bars at once
    assert max(box["bottom"] for box in boxes) < HEIGHT - 25
    took = [drag(browser, slider, step) for slider in sliders for step in (40, -25)]
    print(f"{notebook}: the picture follows after", *(f"{seconds:.2f} s" for seconds in took))
    screenshot(browser, f"{notebook}_dragged")
    share = max(1.0, os.getloadavg()[0] / os.cpu_count())  # of a core, between so many processes
    assert min(took) < 0.5 * share


@pytest.fixture
def page(outputs, tmp_path):
    """The address of the page of `./run_all.sh demo`."""
    pytest.importorskip("gradio", reason="pip install gradio")
    port = free_port()
    command = [sys.executable, "-m", "lib.demo", "--run", str(outputs / "smoke"), f"--port={port}"]
    with server(command, port, tmp_path / "log") as address:
        yield address


STRIPS = """
return [...document.querySelectorAll(".strip")].map(strip =>
    [...strip.querySelectorAll("figure")].map(one => [
        one.querySelector("img").naturalWidth, one.innerText.trim()]))
"""


def strips(browser):
    """Captions of the pictures in each row of the page, once all of them are decoded."""
    found = browser.execute_script(STRIPS)
    is_complete = len(found) == 3 and all(width for strip in found for width, _ in strip)
    return [[text for _, text in strip] for strip in found] if is_complete else None


def test_demo_ranks_a_photograph_and_follows_its_sliders(browser, page, outputs):
    photo = next((outputs / "data" / "smoke" / "test").rglob("*.jpg"))
    browser.get(page)
    upload = wait(lambda: browser.find_elements("css selector", "input[type=file]"), "an upload")
    screenshot(browser, "demo_empty")
    upload[0].send_keys(str(photo))
    before, after, voters = wait(lambda: strips(browser), "results")
    screenshot(browser, "demo")
    assert len(before) == len(after) == 8
    assert len(voters) == 3
    assert before[0].startswith("1. ")
    assert " = " in after[0]

    alpha = browser.find_element("css selector", "input[type=number]")
    alpha.clear()
    alpha.send_keys("0" + webdriver.Keys.TAB)
    wait(lambda: (strips(browser) or [[], after])[1] != after, "another ranking")
    screenshot(browser, "demo_without_landmark_votes")
    assert strips(browser)[0] == before
    assert all(" + 0.00 + " in caption for caption in strips(browser)[1])
