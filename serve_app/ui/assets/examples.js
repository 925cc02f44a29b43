// An example runs at once: the server puts its words into the text box and searches.
element.addEventListener("click", (event) => {
  const chip = event.target.closest(".example");
  if (chip) trigger("select", { text: chip.textContent });
});
