element.addEventListener("click", (event) => {
  if (event.target.closest(".similar-drop")) trigger("clear");
});
