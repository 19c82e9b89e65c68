"""The report in headless Chromium: what a browser makes of it, in light and dark, on a phone, by keyboard."""

import base64
import json
import shutil
from itertools import pairwise

import pytest

from results import Store
from results.page import SECTIONS
from results.report import write_report
from tests.results.fakes import fake_ablation, fake_search
from tests.results.test_people import fake_judged
from tests.results.test_report_figures import fake_thresholds

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
STUDIES = ("demo", "tau", "hunt", "judged")
PHONE, DESKTOP = 360, 1100

# The contrast of every text with what is painted behind it, and of every mark that carries a number with the page.
CONTRASTS = """
const channels = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
const over = (front, back) => { const a = front[3] ?? 1; return [0, 1, 2].map((i) => front[i] * a + back[i] * (1 - a)); };
const light = (rgb) => { const [r, g, b] = rgb.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
                         return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
const ground = (element) => channels(getComputedStyle(element).backgroundColor);
const behind = (element) => element ? over(ground(element), behind(element.parentElement)) : [255, 255, 255];
const numbers = ".line:not(.faint), .dot, .interval, .fill, .reference, .axis";
const bad = [];
let texts = 0, marks = 0;
for (const element of document.body.querySelectorAll("*")) {
  const style = getComputedStyle(element);
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (own && !["TITLE", "title", "desc", "SCRIPT"].includes(element.tagName)) {
    const front = channels(element.closest("svg") ? style.fill : style.color), back = behind(element);
    const found = ratio(over(front, back), back);
    texts += 1;
    if (found < 4.5) bad.push([element.tagName, element.getAttribute("class"), element.textContent.slice(0, 30), found]);
  }
  if (element.matches(numbers) && !/\\br[0-4]\\b/.test(element.getAttribute("class"))) {
    const paint = element.matches(".dot, .fill") && !element.matches(".hollow") ? style.fill : style.stroke;
    const found = ratio(channels(paint), behind(element));
    marks += 1;
    if (found < 3) bad.push([element.tagName, element.getAttribute("class"), paint, found]);
  }
}
return {texts, marks, bad};
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Pages of an ablation with everything, of one along thresholds with failures and gaps, of a search, and of one with predictions."""
    store = Store(tmp_path_factory.mktemp("store") / "tables")
    fake_ablation(store, whole=True)
    fake_thresholds(store)
    fake_search(store, trials=24)
    fake_judged(store, "judged")
    fake_ablation(store, "mmi", dataset="mmi")  # over two data sets arms are ranked
    fake_ablation(store, "late", skip=[("dual", 0, 0)])
    return {study: write_report(store, study, live=study == "late") for study in (*STUDIES, "late")}


@pytest.fixture(scope="module")
def browser():
    """Chromium with its driver; both are packages of Debian."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("There is no chromium with chromedriver here: apt-get install chromium chromium-driver.")
    webdriver = pytest.importorskip("selenium.webdriver", reason="There is no selenium here: pip install selenium.")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--force-color-profile=srgb",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    yield chrome
    chrome.quit()


def show(browser, path, width=DESKTOP, scheme="light"):
    """Open a page, with everything that is folded away unfolded."""
    device = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    browser.get(path.as_uri())
    browser.execute_script("document.querySelectorAll('details').forEach((part) => { part.open = true; })")


@pytest.mark.parametrize("study", STUDIES)
def test_it_loads_nothing_and_complains_of_nothing(browser, pages, study):
    browser.get_log("performance"), browser.get_log("browser")
    show(browser, pages[study])
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [pages[study].as_uri()]
    # The policy lets the page's own style and script through.
    assert (
        browser.execute_script("return getComputedStyle(document.querySelector('.legend, nav ul')).display") == "flex"
    )
    assert browser.execute_script("return document.querySelectorAll('th button').length") > 0
    shown = browser.execute_script(
        "return [...document.querySelectorAll('section')].filter((s) => s.clientHeight > 40).map((s) => s.id)"
    )
    assert shown == ["question", *(name for name, _, _ in SECTIONS)]
    drawn = "return [...document.querySelectorAll('svg[role=img]')].every((s) => s.getBoundingClientRect().height > 30)"
    assert browser.execute_script(drawn)


def test_the_policy_holds_against_what_would_be_put_into_the_page(browser, pages, tmp_path):
    """If escaping failed: neither a script nor a picture from the network would come to life."""
    evil = "<script>document.title='taken'</script><img src='http://127.0.0.1:9/x.png' onerror=\"document.title='taken'\"></main>"
    path = tmp_path / "evil.html"
    path.write_text(pages["demo"].read_text(encoding="utf-8").replace("</main>", evil), encoding="utf-8")
    browser.get(path.as_uri())
    assert browser.title == "demo: report"
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


@pytest.mark.parametrize("study", STUDIES)
def test_a_phone_scrolls_one_way(browser, pages, study):
    show(browser, pages[study], PHONE)
    assert browser.execute_script("return document.scrollingElement.scrollWidth") <= PHONE
    outside = """return [...document.body.querySelectorAll('*')].filter((e) => !e.closest('.scroll, .skip, pre') &&
                 e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))"""
    assert browser.execute_script(outside) == []
    small = (
        "return Math.min(...[...document.querySelectorAll('svg text')].map((t) => t.getBoundingClientRect().height))"
    )
    assert browser.execute_script(small) >= 9


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("study", STUDIES)
def test_everything_stands_out(browser, pages, study, scheme):
    show(browser, pages[study], scheme=scheme)
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) < 120) == (scheme == "dark")
    found = browser.execute_script(CONTRASTS)
    assert found["bad"] == []
    assert found["texts"] > 100
    assert found["marks"] > 20


def test_the_keyboard_reaches_everything(browser, pages):
    from selenium.webdriver.common.keys import Keys

    show(browser, pages["demo"])
    browser.execute_script("document.querySelectorAll('details').forEach((part) => { part.open = false; })")
    press = browser.switch_to.active_element.send_keys
    press(Keys.TAB)
    assert browser.switch_to.active_element.text == "Skip to the report"
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.current_url.endswith("#question")
    wanted = browser.execute_script("return document.querySelectorAll('figure, summary, .scroll').length")
    seen, folded = (
        [],
        browser.execute_script("return document.querySelectorAll('details .scroll, details figure').length"),
    )
    for _ in range(200):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        at = browser.switch_to.active_element
        if at.tag_name == "body":
            break
        ring = at.value_of_css_property("outline-style")
        assert ring == "solid", at.get_attribute("outerHTML")[:80]
        if at.tag_name in ("figure", "summary") or "scroll" in (at.get_attribute("class") or ""):
            seen.append(at.id)
        if at.tag_name == "summary" and len(seen) < 12:
            at.send_keys(Keys.ENTER)
            assert browser.execute_script("return arguments[0].parentElement.open", at)
            at.send_keys(Keys.ENTER)
    assert len(set(seen)) == wanted - folded


def test_a_table_is_sorted_by_its_headings(browser, pages):
    show(browser, pages["tau"])
    cells = "return [...document.querySelectorAll('#table table.sortable')[0].tBodies[0].rows].map((r) => r.cells[2].textContent)"
    before = browser.execute_script(cells)
    button = browser.execute_script(
        "return document.querySelectorAll('#table table.sortable')[0].tHead.rows[0].cells[2].querySelector('button')"
    )
    browser.execute_script("arguments[0].click(); arguments[0].click()", button)
    after = browser.execute_script(cells)
    assert after == sorted(before, key=float, reverse=True)
    assert browser.execute_script("return arguments[0].parentElement.getAttribute('aria-sort')", button) == "descending"


def test_a_cell_unfolds_to_its_trials_by_keyboard(browser, pages):
    from selenium.webdriver.common.keys import Keys

    show(browser, pages["judged"])
    browser.execute_script("document.querySelectorAll('details').forEach((part) => { part.open = false; })")
    cell = browser.find_element(
        "css selector", "#table tbody tr:nth-child(2) td:nth-child(6) summary"
    )  # its difference
    browser.execute_script("arguments[0].focus()", cell)
    cell.send_keys(Keys.ENTER)
    shown = browser.find_element("css selector", "#table tbody tr:nth-child(2) td:nth-child(6) .keys")
    assert len(shown.text.split()) == 12
    assert "judged-1-0-0" in shown.text


def test_the_diagram_is_drawn(browser, pages):
    """The best arm stands on the right, and its line ends at its name."""
    show(browser, pages["judged"])
    names = browser.find_elements("css selector", "#ranks svg text.name")
    assert [name.text for name in names] == ["dual 1.00", "softmax 2.00"]
    assert names[0].rect["x"] > names[1].rect["x"] + names[1].rect["width"]
    assert len(browser.find_elements("css selector", "#ranks svg .clique")) == 1


def test_tables_and_figures_are_named(browser, pages):
    show(browser, pages["demo"])
    unnamed = """return [...document.querySelectorAll('table')].filter((t) => !t.caption?.textContent).length
      + [...document.querySelectorAll('th')].filter((h) => !h.scope).length
      + [...document.querySelectorAll('svg[role=img]')].filter((s) => !s.querySelector('title').textContent).length
      + [...document.querySelectorAll('svg[role=img]')].filter((s) => !s.querySelector('desc').textContent).length
      + [...document.querySelectorAll('svg:not([role=img])')].filter((s) => !s.ariaHidden).length"""
    assert browser.execute_script(unnamed) == 0
    levels = browser.execute_script(
        "return [...document.querySelectorAll('h1, h2, h3')].map((h) => Number(h.tagName[1]))"
    )
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_it_can_be_read_without_its_script_and_printed(browser, pages):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(pages["demo"].as_uri())
        for name, title, _ in SECTIONS:
            assert browser.find_element("css selector", f"#{name} h2").text == title
        pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert pdf.startswith(b"%PDF")
    assert len(pdf) > 20_000


def test_a_live_page_is_read_again(browser, pages):
    show(browser, pages["late"])
    assert browser.execute_script("return document.querySelector('meta[http-equiv=refresh]').content") == "30"
    assert browser.execute_script("return document.querySelector('progress').value") == 11
