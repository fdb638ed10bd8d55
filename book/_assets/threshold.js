// Chapter 16: a slider moves the threshold, and with it the point on the ROC curve and the counts.
"use strict";

document.querySelectorAll("[data-interactive=threshold]").forEach(root => {
  const data = JSON.parse(root.querySelector("script").textContent);
  const out = name => root.querySelector(`[data-out="${name}"]`);
  const part = name => root.querySelector(`[data-part="${name}"]`);
  const [threshold, share] = ["threshold", "share"].map(name => root.querySelector(`[data-in="${name}"]`));
  const people = count => (count < 9.95 ? count.toFixed(1) : count.toFixed(0)); // as in interactive.py
  const digits = value => String(Number(value.toPrecision(3)));

  function show() {
    const chosen = data.thresholds[threshold.value].toFixed(3);
    const fakes = data.shares[share.value];
    const counts = data.counts[threshold.value];
    data.names.forEach((name, number) => (out(name).textContent = counts[number]));
    const { tn, fp, fn, tp } = Object.fromEntries(data.names.map((name, number) => [name, counts[number]]));
    const fpr = fp / (fp + tn), tpr = tp / (tp + fn);

    const { left, top, width, height } = data.frame;
    part("point").setAttribute("transform", `translate(${left + width * fpr} ${top + height * (1 - tpr)})`);
    part("threshold").firstElementChild.textContent = `threshold ${chosen}`;
    part("tpr").firstElementChild.textContent = `TPR ${tpr.toFixed(3)}`;
    part("fpr").firstElementChild.textContent = `FPR ${fpr.toFixed(3)}`;

    const accused = data.uploads * (1 - fakes) * fpr, found = data.uploads * fakes * tpr;
    const words = {
      threshold: chosen,
      share: `${digits(100 * fakes)} %`,
      percent: digits(100 * fakes),
      accused: people(accused),
      found: people(found),
      missed: people(data.uploads * fakes - found),
      innocent: accused + found ? ((100 * accused) / (accused + found)).toFixed(0) : "0",
    };
    for (const [name, text] of Object.entries(words)) out(name).textContent = text;
    threshold.setAttribute("aria-valuetext", chosen);
    share.setAttribute("aria-valuetext", words.share);
  }

  for (const slider of [threshold, share]) slider.addEventListener("input", show);
  root.querySelector(".avff-controls").hidden = false;
  show();
});
