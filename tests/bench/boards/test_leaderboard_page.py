"""The HTML page in headless Chromium: sort, filter, tabs, drawers, keyboard, dark mode; no error, no network."""

import json
import shutil

import pytest
from samples import TASKS, Synthetic

from bench.boards import boards, html

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed"),
]


def page_of_samples():
    sample = Synthetic()
    for m, method in enumerate(("att", "att+orthoreg")):
        cosine = [[1.0, 0.3 - 0.2 * m, 0.1], [0.3 - 0.2 * m, 1.0, -0.1], [0.1, -0.1, 1.0]]
        sample.add(
            f"geometry-{method}", [], {"tasks": list(TASKS), "cosine": cosine}, kind="geometry", finetuning=method
        )
        experts = [f"expert-{method}-{task}-0" for task in TASKS]
        sample.addition(method, "emr", 0, experts, 0.9, board="task-id")
        sample.inapplicable(method, "ties@knots", 0, "needs LoRA factors", board="task-id")
        sample.subset(method, "ties", 0, TASKS[:2], 0.6 + 0.1 * m)
    for strength, skill in ((0.0, 0.4), (1.0, 0.7), (10.0, 0.5)):
        sample.strength("att+orthoreg", "ties", 0, strength, skill)
    return boards.build(*sample.tables())


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1360,900",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(html.page(page_of_samples()), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def page(browser, source):
    browser.get("about:blank")
    browser.get(source)
    return browser


def shown(page, query):
    return [element for element in page.find_elements(By.CSS_SELECTOR, query) if element.is_displayed()]


def names(page):
    return [element.text for element in shown(page, "button.name")]


def accuracies(page):
    return [float(element.text) for element in shown(page, "td.accuracy")]


def head(page, text):
    return next(b for b in shown(page, "th button") if b.text == text)


def tab(page, text):
    return next(t for t in page.find_elements(By.CSS_SELECTOR, "[role=tab]") if t.text == text)


def test_the_first_board_is_open_and_ranked(page):
    boards, views = (
        "validation-tuned, task-id, references, ",
        "coefficients, subsets, cost, geometry, lambda, published",
    )
    tabs = f"{boards}orthoreg effect, negation, {views}"
    assert [t.text for t in page.find_elements(By.CSS_SELECTOR, "[role=tab]")] == tabs.split(", ")
    assert len(names(page)) == 12
    assert accuracies(page) == sorted(accuracies(page), reverse=True)
    assert len(shown(page, "[role=tabpanel]")) == 1


def test_a_column_sorts_down_then_up_and_says_so(page):
    head(page, "normalised, own").click()
    column = [float(e.text) for e in shown(page, "tr.row td:nth-child(6)")]
    assert column == sorted(column, reverse=True)
    assert head(page, "normalised, own").find_element(By.XPATH, "..").get_attribute("aria-sort") == "descending"
    head(page, "normalised, own").click()
    column = [float(e.text) for e in shown(page, "tr.row td:nth-child(6)")]
    assert column == sorted(column)
    head(page, "row").click()
    assert names(page) == sorted(names(page))
    head(page, "#").click()
    assert accuracies(page) == sorted(accuracies(page), reverse=True)


def test_rows_without_a_value_stay_last(page):
    for _ in range(2):
        head(page, "to first").click()
        assert shown(page, "tr.row td:nth-child(8)")[-1].text == "–"


def test_filters_narrow_the_rows_and_count_them(page):
    field = shown(page, "input[type=search]")[0]
    field.send_keys("ORTHOREG/t")
    assert set(names(page)) == {f"{m}+orthoreg/{o}" for m in ("att", "nonlinear") for o in ("ties", "task_arithmetic")}
    assert shown(page, "output")[0].text == "4 of 12 rows"
    field.clear()
    field.send_keys(" ", Keys.BACKSPACE)
    select = shown(page, "select[name=finetuning]")[0]
    select.send_keys("nonlinear+")
    assert {n.partition("/")[0] for n in names(page)} == {"nonlinear+orthoreg"}


def test_a_drawer_opens_below_its_row_and_moves_with_it(page):
    button = shown(page, "button.name")[2]
    name = button.text
    button.click()
    (drawer,) = shown(page, "tr.drawer")
    assert button.get_attribute("aria-expanded") == "true"
    for text in (
        *TASKS,
        "seed 0",
        f"addition-{name.replace('/', '-')}-0",
        "bench run --grid all --suite toy",
        "nowhere",
    ):
        assert text in drawer.text
    head(page, "row").click()
    row = page.find_element(By.XPATH, f"//tr[@data-name='{name}']")
    assert page.execute_script("return arguments[0].nextElementSibling === arguments[1]", row, drawer)
    button.click()
    assert shown(page, "tr.drawer") == []


def test_tabs_switch_by_click_and_by_arrow_and_live_in_the_address(page, source):
    tab(page, "task-id").click()
    assert sorted(names(page)[:2]) == ["att+orthoreg/emr", "att/emr"]
    tab(page, "task-id").send_keys(Keys.ARROW_RIGHT)
    assert page.switch_to.active_element.text == "references"
    assert "zero-shot" in names(page)
    assert page.current_url.endswith("#references")
    page.switch_to.active_element.send_keys(Keys.END, Keys.ARROW_RIGHT)
    assert page.switch_to.active_element.text == "validation-tuned"
    page.switch_to.active_element.send_keys(Keys.ARROW_LEFT)
    assert page.switch_to.active_element.text == "published"
    page.switch_to.active_element.send_keys(Keys.HOME)
    assert page.switch_to.active_element.text == "validation-tuned"
    page.get("about:blank")
    page.get(f"{source}#geometry")
    assert len(shown(page, "#geometry svg.chart")) == 2


def test_every_tab_shows_its_own_content(page):
    for name, query, count in (
        ("orthoreg effect", "table.map td.plus, table.map td.minus", 7),
        ("negation", "#negation tr.row", 4),
        ("coefficients", "#coefficients svg.chart", 4),
        ("subsets", "#subsets svg.chart", 2),
        ("subsets", "#subsets svg g.mark > g", 8),
        ("cost", "#cost svg.chart", 2),
        ("lambda", "#lambda svg g.mark > g", 3),
        ("lambda", "#lambda td.sure", 1),
        ("published", "#published table", 6),
    ):
        tab(page, name).click()
        assert len(shown(page, query)) == count, name
        assert len(shown(page, "[role=tabpanel]")) == 1


def test_the_page_can_be_used_by_keyboard_alone(page):
    tab(page, "validation-tuned").send_keys(Keys.TAB)
    assert page.switch_to.active_element.get_attribute("type") == "search"
    shown(page, "button.name")[0].send_keys(Keys.ENTER)
    assert len(shown(page, "tr.drawer")) == 1
    head(page, "row").send_keys(Keys.SPACE)
    assert names(page) == sorted(names(page))


def contrast(page, query):
    """WCAG contrast of the text of the first element found against the page."""
    channel = """
      const lum = (c) => c.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
        .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
      const e = document.querySelector(arguments[0]);
      const a = lum(getComputedStyle(e).color), b = lum(getComputedStyle(document.body).backgroundColor);
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);"""
    return page.execute_script(channel, query)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_light_and_dark(page, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    background = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 24, 29)")
    for query in ("h1", "p.soft", "th", "button.name", "td.accuracy", "g.s0.mark", "g.s1.mark"):
        assert contrast(page, query) >= 4.5, query
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_print_shows_all_boards_and_no_drawers(page):
    shown(page, "button.name")[0].click()
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert len(shown(page, "[role=tabpanel]")) == 11
    assert shown(page, "tr.drawer") == shown(page, ".tools") == []
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_paper_is_white_whatever_the_screen_is(page):
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": features})
    colours = [contrast(page, query) for query in ("h1", "p.soft", "button.name", "g.s0.mark", "g.s1.mark")]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    assert min(colours) >= 4.5


def test_on_a_narrow_screen_names_stay_while_numbers_scroll(page):
    narrow = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", narrow)
    try:
        for element in page.find_elements(By.CSS_SELECTOR, "[role=tab]"):
            element.click()
            assert page.execute_script("return document.documentElement.scrollWidth") <= 390, element.text
            wide = "return [...document.querySelectorAll('.open th[scope=row], .open tr.row > td.text:first-child')]"
            wider = page.execute_script(
                f"{wide}.filter((e) => e.scrollWidth > e.clientWidth).map((e) => e.textContent)"
            )
            assert wider == [], element.text
        page.find_element(By.ID, "tab-board-1").click()
        page.execute_script("document.querySelector('#board-1 .scroll').scrollLeft = 400")
        name, accuracy = (
            page.execute_script("return document.querySelector(arguments[0]).getBoundingClientRect().right", query)
            for query in ("#board-1 .name", "#board-1 td.accuracy")
        )
        assert accuracy < 0 < name < 390
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_no_console_error_and_no_network_request(page):
    page.get_log("performance")
    page.refresh()
    for element in page.find_elements(By.CSS_SELECTOR, "[role=tab]"):
        element.click()
    assert [line for line in page.get_log("browser") if line["level"] in ("SEVERE", "WARNING")] == []
    events = [json.loads(line["message"])["message"] for line in page.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert len(asked) >= 1
    assert all(url.startswith(("file:", "data:", "about:")) for url in asked)


def test_what_is_not_applicable_stands_last_with_its_reason(page):
    page.find_element(By.ID, "tab-board-2").click()
    assert names(page)[-2:] == ["att+orthoreg/ties@knots", "att/ties@knots"]
    last = shown(page, "#board-2 tr.unable")[-1]
    assert "not applicable" in last.text
    last.find_element(By.CSS_SELECTOR, "button.name").click()
    (drawer,) = shown(page, "tr.drawer")
    assert "ties@knots needs LoRA factors." in drawer.text


def test_the_head_of_a_long_board_stays_in_view(page):
    last = shown(page, "#board-1 button.name")[-1]
    page.set_window_size(1360, 420)
    page.execute_script("arguments[0].scrollIntoView({block: 'end'})", last)
    top = page.execute_script("return document.querySelector('#board-1 thead th').getBoundingClientRect().top")
    page.set_window_size(1360, 900)
    assert 0 <= top < 5
