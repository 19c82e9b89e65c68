// Sorts a table by the column whose heading is pressed; the page can be read without it.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const value = (row, place) => {
    const cell = row.cells[place], text = (cell.querySelector("summary") || cell).textContent.trim();
    const number = parseFloat(text.replace(/^[<\[≥+]+/, "").replace("−", "-"));
    return [text, heads[place].classList.contains("n") ? number : NaN];
  };
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].map((row) => [row, ...value(row, place)]);
      // What is empty comes last, whichever way the rest is sorted.
      rows.sort(([, a, m], [, b, n]) => (!a - !b) || (up ? 1 : -1) * (isNaN(m - n) ? a.localeCompare(b) : m - n));
      body.append(...rows.map(([row]) => row));
    });
  });
}
