// A click on a figure, or Enter where it has the focus, shows it as large as the window; a click or Escape ends that.
(() => {
  const drawings = document.querySelectorAll("figure.plot picture, figure.plot > svg");
  if (!drawings.length) return;
  const dialog = document.createElement("dialog");
  dialog.className = "large";
  document.body.append(dialog);
  dialog.addEventListener("click", () => dialog.close());
  // told of a moment after it closed, when another figure may have opened it
  dialog.addEventListener("close", () => dialog.open || dialog.replaceChildren());
  for (const drawing of drawings) {
    const said = drawing.querySelector("img")?.alt ?? drawing.getAttribute("aria-label");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "enlarge";
    button.setAttribute("aria-label", `Enlarge: ${said}`);
    drawing.replaceWith(button);
    button.append(drawing);
    button.addEventListener("click", () => {
      const copy = drawing.cloneNode(true);
      dialog.setAttribute("aria-label", said);
      dialog.replaceChildren(copy);
      dialog.showModal();
    });
  }
})();
