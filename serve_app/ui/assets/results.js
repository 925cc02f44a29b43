// Result cards: "More like this" asks the server, a click on the picture asks the lightbox (lightbox.js).
let comeBack = false;

element.addEventListener("click", (event) => {
  const card = event.target.closest(".card");
  if (!card) return;
  if (event.target.closest(".card-more")) {
    trigger("select", { id: card.dataset.id, name: card.dataset.name });
    comeBack = true;
  } else if (event.target.closest(".card-open")) {
    document.dispatchEvent(new CustomEvent("show-picture", { detail: card }));
  }
});

// Once the new results are there, go back up to them: with the fields in view where there is room.
watch("value", () => {
  if (!comeBack) return;
  comeBack = false;
  const fields = document.querySelector("#ask");
  const roomy = fields.offsetHeight < innerHeight * 0.45;
  (roomy ? fields : document.querySelector("#similar")).scrollIntoView({ block: "start", behavior: "smooth" });
});

// A thumbnail that cannot be had leaves words in its box instead of a broken picture.
element.addEventListener("error", (event) => {
  event.target.closest?.(".card-open")?.classList.add("missing");
}, true);
