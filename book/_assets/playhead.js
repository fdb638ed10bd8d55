// Chapter 15: a film plays above the timeline of its scores; an upright line marks the moment that is shown.
"use strict";

document.querySelectorAll("[data-interactive=playhead]").forEach(root => {
  const data = JSON.parse(root.querySelector("script").textContent);
  const out = name => root.querySelector(`[data-out="${name}"]`);
  const [slider, button] = ["time", "play"].map(name => root.querySelector(`[data-in="${name}"]`));
  const video = root.querySelector("video");
  const drawing = root.querySelector("svg");
  const head = root.querySelector('[data-part="playhead"]');
  const { left, top, width, x } = data.frame;

  function show() {
    const time = Math.min(video.currentTime, x[1]);
    head.setAttribute("transform", `translate(${left + (width * (time - x[0])) / (x[1] - x[0])} ${top})`);
    const here = data.windows.filter(([start, end]) => start <= time && time < end);
    const word = score => (score >= data.threshold ? "fake" : "real");
    const scores = here.map(([, , score]) => `${score.toFixed(2)} (${word(score)})`).join(", ") || "nothing";
    out("time").textContent = out("moment").textContent = `${time.toFixed(1)} s`;
    out("scores").textContent = scores;
    slider.value = time;
    slider.setAttribute("aria-valuetext", `${time.toFixed(1)} seconds: ${scores}`);
  }

  function follow() {
    show();
    if (!video.paused) requestAnimationFrame(follow);
  }

  function label() {
    button.textContent = video.paused ? "Play" : "Pause";
    // Read aloud where the film stands, not ten times a second while it plays.
    out("scores").parentElement.setAttribute("aria-live", video.paused ? "polite" : "off");
  }

  button.addEventListener("click", () => (video.paused ? video.play() : video.pause()));
  ["play", "pause", "ended"].forEach(name => video.addEventListener(name, label));
  video.addEventListener("play", follow);
  video.addEventListener("seeked", show);
  slider.addEventListener("input", () => (video.currentTime = slider.value));
  drawing.addEventListener("click", event => {
    const box = drawing.getBoundingClientRect();
    const place = ((event.clientX - box.left) / box.width) * drawing.viewBox.baseVal.width;
    video.currentTime = Math.max(0, Math.min(x[1] - 0.05, x[0] + ((place - left) / width) * (x[1] - x[0])));
  });
  root.querySelector(".avff-controls").hidden = false;
  show();
});
