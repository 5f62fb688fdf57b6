// The page compare.html: two runs of the JSON in #runs, chosen in #choice. The address keeps the choice: #study/a/b.
(() => {
  const data = document.getElementById("runs");
  if (!data) return;
  const studies = JSON.parse(data.textContent);
  const form = document.getElementById("choice");
  const fields = Object.fromEntries(["study", "a", "b"].map((name) => [name, form.elements.namedItem(name)]));
  const SVG = "http://www.w3.org/2000/svg";
  const [WIDTH, HEIGHT, LEFT, TOP] = [430, 200, 68, 12];

  const element = (name, attributes = {}, text = "") => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    return made;
  };
  const drawn = (name, attributes, text = "") => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    return made;
  };

  const rows = (table, names, a, b) => {
    table.tBodies[0].replaceChildren(...names.map((name) => {
      const row = element("tr");
      row.append(element("th", { scope: "row" }, name));
      for (const side of [a, b]) row.append(element("td", { class: "wrap" }, side[name] ?? "–"));
      return row;
    }));
  };

  // one panel: each run's points in the axes of both
  const panel = (title, lines) => {
    const points = Object.values(lines).flat();
    const values = points.map((point) => point[1]);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const last = Math.max(...points.map((point) => point[0]));
    const x = (epoch) => LEFT + ((WIDTH - LEFT - 10) * (epoch - 1)) / Math.max(last - 1, 1);
    const y = (value) => TOP + ((HEIGHT - TOP - 34) * (high - value)) / (high - low || 1);
    const ends = Object.entries(lines).map(([side, of]) => `${side} ends at ${of.at(-1)[1]}`).join(", ");
    const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, role: "img" });
    svg.setAttribute("aria-label", `${title} by epoch: ${ends}`);
    const bottom = HEIGHT - 30;
    svg.append(drawn("path", { d: `M${LEFT - 4} ${TOP - 4}V${bottom}H${WIDTH - 6}`, fill: "none", stroke: "currentColor", "stroke-opacity": 0.45 }));
    const label = { "font-size": 12, fill: "currentColor" };
    svg.append(drawn("text", { ...label, x: LEFT - 8, y: TOP + 6, "text-anchor": "end" }, Number(high.toPrecision(3))));
    svg.append(drawn("text", { ...label, x: LEFT - 8, y: bottom, "text-anchor": "end" }, Number(low.toPrecision(3))));
    svg.append(drawn("text", { ...label, x: LEFT, y: HEIGHT - 12 }, "epoch 1"));
    svg.append(drawn("text", { ...label, x: WIDTH - 6, y: HEIGHT - 12, "text-anchor": "end" }, last));
    for (const [side, of] of Object.entries(lines)) {
      const line = { fill: "none", stroke: side === "A" ? "var(--link)" : "var(--warn)", "stroke-width": 1.8 };
      if (side === "B") line["stroke-dasharray"] = "6 4";
      svg.append(drawn("polyline", { ...line, points: of.map(([e, v]) => `${x(e).toFixed(1)},${y(v).toFixed(1)}`).join(" ") }));
    }
    const figure = element("figure", { class: "curve" });
    figure.append(element("figcaption", {}, title), svg);
    return figure;
  };

  const show = () => {
    const runs = studies[fields.study.value].runs;
    const [a, b] = [fields.a, fields.b].map((field) => runs.find((run) => run.entry === field.value));
    rows(document.getElementById("table-results"), Object.keys(a.results), a.results, b.results);
    const names = [...new Set([...Object.keys(a.settings), ...Object.keys(b.settings)])].sort();
    const differ = names.filter((name) => a.settings[name] !== b.settings[name]);
    rows(document.getElementById("table-settings"), differ, a.settings, b.settings);
    document.getElementById("count").textContent = `${differ.length} of ${names.length} settings differ; – where a run has none of the name.`;
    const titles = [...new Set([...Object.keys(a.curves), ...Object.keys(b.curves)])];
    document.getElementById("drawn").replaceChildren(...titles.map((title) => {
      const lines = { A: a.curves[title], B: b.curves[title] };
      return panel(title, Object.fromEntries(Object.entries(lines).filter((line) => line[1])));
    }));
    for (const [at, run] of [[1, a], [2, b]]) {
      for (const id of ["table-results", "table-settings"]) {
        const link = element("a", { href: `index.html#${run.place}` }, `${"AB"[at - 1]}: ${run.label}`);
        document.getElementById(id).tHead.rows[0].cells[at].replaceChildren(link);
      }
    }
    history.replaceState(null, "", `#${[fields.study, fields.a, fields.b].map((f) => encodeURIComponent(f.value)).join("/")}`);
  };

  const fill = (a, b) => {
    const runs = studies[fields.study.value].runs;
    for (const [field, wanted, other] of [[fields.a, a, 0], [fields.b, b, 1]]) {
      field.replaceChildren(...runs.map((run) => element("option", { value: run.entry }, `${run.label} (${run.entry})`)));
      field.value = runs.some((run) => run.entry === wanted) ? wanted : runs[other].entry;
    }
    show();
  };

  const chosen = () => {
    const [study, a, b] = location.hash.slice(1).split("/").map(decodeURIComponent);
    if (study in studies) fields.study.value = study;
    fill(a, b);
  };

  fields.study.addEventListener("change", () => fill());
  for (const field of [fields.a, fields.b]) field.addEventListener("change", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", chosen);
  form.hidden = false;
  document.getElementById("compared").hidden = false;
  chosen();
})();
