"use strict";
// Tables of class "sortable": the headings of the last heading row become buttons that sort. Several <tbody>, and even
// one of class "grouped", are row groups: each moves as a whole, by its row with data-key, else its first. A single
// <tbody> else has its rows sorted. Numbers go by value, largest first; the empty come last both ways; equals keep their
// order. data-value stands for a cell's text.
(() => {
  const NUMBER = /^[+\-\u2212]?\d[\d,]*(\.\d+)?/;

  // [row][column]: the cell that covers this place, spans counted
  const grid = (section) => {
    const cells = [];
    [...section.rows].forEach((row, r) => {
      cells[r] ??= [];
      for (const cell of row.cells) {
        const c = [...Array(cells[r].length + 1).keys()].find((i) => !cells[r][i]);
        for (let i = 0; i < cell.rowSpan; i++) {
          for (let j = 0; j < cell.colSpan; j++) (cells[r + i] ??= [])[c + j] = cell;
        }
      }
    });
    return cells;
  };

  const value = (cell) => {
    const text = cell ? (cell.dataset.value ?? cell.textContent).trim() : "";
    if (!text || text === "–" || cell.classList.contains("missing")) return null;
    const number = NUMBER.exec(text);
    return number ? Number(number[0].replace("\u2212", "-").replaceAll(",", "")) : text.toLowerCase();
  };

  const compare = (a, b, sign) => {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en"));
  };

  const sort = (table, heading, column) => {
    const bodies = [...table.tBodies];
    const grouped = bodies.length > 1 || table.classList.contains("grouped");
    const parent = grouped ? table : bodies[0];
    const items = grouped
      ? bodies.map((body) => ({ node: body, cells: grid(body)[Math.max(0, [...body.rows].findIndex((r) => "key" in r.dataset))] }))
      : grid(parent).map((cells, r) => ({ node: parent.rows[r], cells }));
    const keyed = items.map((item, index) => ({ ...item, index, key: value(item.cells[column]) }));
    const before = heading.getAttribute("aria-sort");
    const ascending = before ? before === "descending" : !keyed.some((item) => typeof item.key === "number");
    for (const other of table.tHead.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    keyed.sort((a, b) => compare(a.key, b.key, ascending ? 1 : -1) || a.index - b.index);
    parent.append(...keyed.map((item) => item.node));
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    grid(table.tHead).at(-1).forEach((heading, column) => {
      if (heading.parentNode !== table.tHead.rows[table.tHead.rows.length - 1] || !heading.textContent.trim()) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => sort(table, heading, column));
    });
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
