// What belongs to the page as a whole: light or dark, pasted and dropped pictures, sliders by keyboard.
(() => {
  const remembered = () => { try { return localStorage.getItem("image-search-theme"); } catch { return null; } };
  const paint = (theme) => document.body.classList.toggle("dark", theme === "dark");

  // Gradio follows the system; a choice made here is kept over it.
  const keep = () => { if (remembered()) paint(remembered()); };
  new MutationObserver(() => {
    const wanted = remembered();
    if (wanted && document.body.classList.contains("dark") !== (wanted === "dark")) paint(wanted);
  }).observe(document.body, { attributeFilter: ["class"] });
  keep();

  document.addEventListener("click", (event) => {
    if (!event.target.closest?.("#theme")) return;
    const theme = document.body.classList.contains("dark") ? "light" : "dark";
    try { localStorage.setItem("image-search-theme", theme); } catch { /* private windows may refuse */ }
    paint(theme);
  });

  const give = (file) => {
    const input = document.querySelector("#picture input[type=file]");
    if (!input) return;
    const chosen = new DataTransfer();
    chosen.items.add(file);
    input.files = chosen.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  };

  // A picture pasted or dropped anywhere goes where a chosen one goes.
  const offer = (event, transfer) => {
    const file = [...(transfer?.files ?? [])].find((item) => item.type.startsWith("image/"));
    if (!file || event.target.closest?.("#picture")) return;
    event.preventDefault();
    event.stopPropagation();
    document.querySelector("#picture button[aria-label='Clear'], #picture button[aria-label='Remove Image']")?.click();
    requestAnimationFrame(() => give(file));
  };
  const dragged = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  document.addEventListener("paste", (event) => offer(event, event.clipboardData), true);
  document.addEventListener("drop", (event) => offer(event, event.dataTransfer), true);
  document.addEventListener("dragover", (event) => {
    if (!dragged(event)) return;
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  for (const end of ["drop", "dragend", "mouseout"]) {
    document.addEventListener(end, () => document.body.classList.remove("dragging"), true);
  }

  // On a phone the keyboard would stay in front of the results.
  document.addEventListener("keydown", (event) => {
    const asked = event.key === "Enter" && event.target.closest?.("#text, #without");
    if (asked && matchMedia("(pointer: coarse)").matches) setTimeout(() => event.target.blur(), 50);
  });

  // Gradio's sliders report a finished move of the mouse only: do the same for the keyboard.
  document.addEventListener("keyup", (event) => {
    const field = event.target;
    if (!field.closest?.("#limit, #weight")) return;
    const moved = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown"];
    if (field.type === "range" && moved.includes(event.key)) field.dispatchEvent(new PointerEvent("pointerup", { bubbles: true }));
    if (field.type === "number" && event.key === "Enter") field.blur();
  });
})();
