// What axe-core finds on a page, in light and dark, with a picture of each.
import assert from "node:assert/strict";
import axe from "axe-core";
import { picture } from "./support.mjs";

const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

/** Fails with what axe-core finds on the page as it stands. */
export async function audit(page, what) {
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    // The browser runs it from outside of the page, whose policy would not let it in.
    if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(axe.source);
    const found = await page.evaluate(async (values) => {
      const { violations } = await window.axe.run(document, { runOnly: { type: "tag", values }, resultTypes: ["violations"] });
      return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join("\n  ")}`);
    }, RULES);
    assert.deepEqual(found, [], `${what}, ${colorScheme}`);
    await picture(page, `${what.replaceAll(" ", "-")}-${colorScheme}`);
  }
}

export const narrow = (page) => page.setViewportSize({ width: 360, height: 740 });
export const wide = (page) => page.setViewportSize({ width: 1180, height: 760 });

/** Fails where the page is wider than the window. */
export async function fits(page) {
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, "no sideways scrolling");
}
