// The larger picture in a dialog: Escape closes it, the arrow keys leaf through the results.
const viewer = element.querySelector("dialog");
const part = (name) => viewer.querySelector(name);
const picture = part(".viewer-stage img");
let card = null;

const show = (next) => {
  if (!next) return;
  card = next;
  const thumbnail = card.querySelector("img");
  const { name, file, score, full } = card.dataset;
  const facts = [file !== name && file, `score ${score}`];
  picture.alt = name;
  picture.src = thumbnail.currentSrc || thumbnail.src;
  // The thumbnail stands in until the picture is here, and stays if it cannot be had.
  const larger = new Image();
  larger.onload = () => { if (card === next) picture.src = larger.src; };
  larger.src = full;
  part(".viewer-name").textContent = name;
  part(".viewer-facts").textContent = facts.filter(Boolean).join(" · ");
  part(".viewer-full").href = full;
  part(".viewer-back").disabled = !card.previousElementSibling;
  part(".viewer-next").disabled = !card.nextElementSibling;
  if (!viewer.open) viewer.showModal();
};
const back = () => show(card?.previousElementSibling);
const next = () => show(card?.nextElementSibling);

document.addEventListener("show-picture", (event) => show(event.detail));

viewer.addEventListener("click", (event) => {
  const on = (selector) => event.target.closest(selector);
  if (on(".viewer-back")) back();
  else if (on(".viewer-next")) next();
  else if (on(".viewer-more")) { viewer.close(); card.querySelector(".card-more").click(); }
  else if (on(".viewer-close") || event.target === viewer || event.target.matches(".viewer-stage")) viewer.close();
});

viewer.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") back();
  if (event.key === "ArrowRight") next();
});

let touchedAt = 0;
viewer.addEventListener("touchstart", (event) => { touchedAt = event.changedTouches[0].clientX; }, { passive: true });
viewer.addEventListener("touchend", (event) => {
  const moved = event.changedTouches[0].clientX - touchedAt;
  if (Math.abs(moved) > 60) (moved > 0 ? back : next)();
}, { passive: true });
