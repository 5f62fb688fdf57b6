// Forms of class "filter" choose rows of the element that data-of names: a group of rows stays where each of its data-<name> has
// what the field <name> says between bars, `|holds|undecided|`. A fold opens where all that is left lies in it.
(() => {
  for (const form of document.querySelectorAll("form.filter")) {
    const place = document.getElementById(form.dataset.of);
    const rows = [...place.querySelectorAll("tbody[data-paper]")];
    const output = form.querySelector("output");
    const what = output.textContent.split(" ").at(-1);
    const apply = () => {
      const wanted = [...form.elements].filter((field) => field.name && field.value);
      for (const row of rows) row.hidden = !wanted.every((field) => row.dataset[field.name].includes(`|${field.value}|`));
      const left = rows.filter((row) => !row.hidden);
      output.textContent = `${left.length} of ${rows.length} ${what}`;
      for (const fold of place.querySelectorAll(":scope > details")) {
        if (wanted.length && left.length) fold.open = left.every((row) => fold.contains(row));
      }
    };
    form.hidden = false;
    form.addEventListener("change", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
  }
})();
