// Chapter 11: each slice of time is masked in one stream; a click or the keyboard changes in which.
"use strict";

document.querySelectorAll("[data-interactive=masks]").forEach(root => {
  const data = JSON.parse(root.querySelector("script").textContent);
  const out = name => root.querySelector(`[data-out="${name}"]`);
  const slices = [...root.querySelectorAll("[data-part=slice]")];
  const visible = new Set(data.draws[0]); // in the video; all others are visible in the audio
  let drawn = 0;

  function show() {
    for (const slice of slices) {
      const number = Number(slice.dataset.slice), seen = visible.has(number) ? "video" : "audio";
      for (const stream of ["video", "audio"]) {
        const when = slice.querySelector(`[data-part="sees-${stream}"]`);
        stream === seen ? when.removeAttribute("display") : when.setAttribute("display", "none");
      }
      const [hidden, network] = seen === "video" ? ["audio", "V2A"] : ["video", "A2V"];
      slice.setAttribute("aria-label", `slice ${number}: ${hidden} masked, ${network} predicts it`);
    }
    const numbers = slices.map(slice => Number(slice.dataset.slice));
    const list = chosen => chosen.join(", ") || "none";
    out("video").textContent = list(numbers.filter(number => visible.has(number)));
    out("audio").textContent = list(numbers.filter(number => !visible.has(number)));
    out("balance").textContent =
      2 * visible.size === data.slices
        ? "Half of each stream is masked, as in training."
        : `Training would mask ${data.slices / 2} slices of each stream; this mask is not one of its.`;
  }

  function toggle(slice) {
    const number = Number(slice.dataset.slice);
    visible.delete(number) || visible.add(number);
    show();
  }

  slices.forEach((slice, place) => {
    slice.setAttribute("role", "button");
    slice.setAttribute("tabindex", "0");
    slice.classList.add("avff-slice");
    slice.addEventListener("click", () => toggle(slice));
    slice.addEventListener("keydown", event => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step) slices[place + step]?.focus();
      else if (event.key === " " || event.key === "Enter") toggle(slice);
      else return;
      event.preventDefault(); // the page does not scroll
    });
  });
  root.querySelector("[data-in=draw]").addEventListener("click", () => {
    drawn = (drawn + 1) % data.draws.length;
    visible.clear();
    data.draws[drawn].forEach(number => visible.add(number));
    show();
  });
  root.querySelector("svg").setAttribute("role", "group");
  root.querySelector(".avff-controls").hidden = false;
  show();
});
