"""axe-core on a page as it stands: light and dark, at the width of a desk and of a phone."""

from __future__ import annotations

from importlib.resources import files

from playwright.sync_api import Page

SCRIPT = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
SIZES = ({"width": 1440, "height": 900}, {"width": 390, "height": 844})
RUN = """async (rules) => {
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));  // as it is at this width
  const found = await axe.run(document, { resultTypes: ['violations'], ...(rules && { runOnly: rules }) });
  return found.violations.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) =>
    `${id}: ${html.slice(0, 160)} ${failureSummary.split('\\n').slice(1, 3).join(' ')}`));
}"""


def faults(page: Page, where: str) -> list[str]:
    """What axe finds, each with the state `where` it was. Leaves the page light and wide."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(f"() => {{ {SCRIPT} }}")
    found = []
    for size in reversed(SIZES):
        page.set_viewport_size(size)
        for scheme, rules in (("dark", ["color-contrast"]), ("light", None)):  # in the dark only colours are others
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            found += [f"{where}, {size['width']} px, {scheme}: {each}" for each in page.evaluate(RUN, rules)]
    return found
