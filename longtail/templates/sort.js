"use strict";
// Tables of class "sortable": the headings of the last heading row become buttons that sort. Several <tbody> are row
// groups: each moves as a whole, by its first row. A single <tbody> has its rows sorted. Numbers go by value, largest
// first; the empty come last both ways; equals keep their order. data-value on a cell stands for its text.
(() => {
  const NUMBER = /^[+\-\u2212]?\d[\d,]*(\.\d+)?/;

  const key = (row, column) => {
    const cell = [...row.cells].find((c) => place(c) === column);
    if (!cell) return null;
    const text = (cell.dataset.value ?? cell.textContent).trim();
    if (!text || text === "–" || cell.classList.contains("missing")) return null;
    const number = NUMBER.exec(text);
    return number ? Number(number[0].replace("\u2212", "-").replaceAll(",", "")) : text.toLowerCase();
  };

  const place = (cell) => [...cell.parentNode.cells].filter((c) => c.cellIndex < cell.cellIndex)
    .reduce((sum, c) => sum + c.colSpan, 0);

  const compare = (a, b, sign) => {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en"));
  };

  const sorted = (rows, rowOf, column, sign) => rows.map((item, index) => ({ item, index, key: key(rowOf(item), column) }))
    .sort((a, b) => compare(a.key, b.key, sign) || a.index - b.index).map((each) => each.item);

  const sort = (table, heading, column) => {
    const bodies = [...table.tBodies];
    const groups = bodies.length > 1;
    const items = groups ? bodies : [...bodies[0].rows];
    const rowOf = (item) => (groups ? item.rows[0] : item);
    const before = heading.getAttribute("aria-sort");
    const numbers = items.some((item) => typeof key(rowOf(item), column) === "number");
    const ascending = before ? before === "descending" : !numbers;
    for (const other of table.tHead.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    (groups ? table : bodies[0]).append(...sorted(items, rowOf, column, ascending ? 1 : -1));
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    const last = table.tHead.rows[table.tHead.rows.length - 1];
    for (const heading of last.cells) {
      if (!heading.textContent.trim()) continue;
      const column = place(heading);
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => sort(table, heading, column));
    }
  }

  // A link to something inside a closed <details> opens it.
  const reveal = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();
})();
