// Quizzes answer at once: the dropdowns of a question become a group of radio buttons, and choosing one shows
// its explanation. Without this script the dropdowns stay.
"use strict";

(() => {
  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const firstWord = choice => choice.querySelector(".sd-summary-content > p")?.firstElementChild;
  const isRight = choice =>
    firstWord(choice)?.tagName === "STRONG" && firstWord(choice).textContent.trim() === "Right.";

  document.querySelectorAll("#quiz .admonition").forEach((question, number) => {
    const title = question.querySelector(":scope > .admonition-title");
    const choices = [...question.querySelectorAll(":scope > details.sd-dropdown")];
    if (!title || choices.filter(isRight).length !== 1) return; // not a question that this script knows

    // Nodes are moved and never copied, so maths that is set later is set in its new place.
    const legend = make("legend", { className: title.className }, ...title.childNodes);
    // Explanations stay in the page, hidden; the region is read out when one of them appears.
    const answer = make("div", { className: "avff-answer" });
    answer.setAttribute("role", "status");
    const group = make("fieldset", { className: `${question.className} avff-quiz` }, legend);

    for (const choice of choices) {
      const right = isRight(choice);
      if (right) firstWord(choice).remove(); // the verdict says it
      const icon = make("span", { className: "avff-icon" }, right ? "✓" : "✗");
      icon.setAttribute("aria-hidden", "true");
      const verdict = make("p", { className: "avff-verdict" }, icon, right ? " Right." : " Not this one.");
      const explanation = make(
        "div",
        { className: right ? "avff-right" : "avff-wrong", hidden: true },
        verdict,
        ...choice.querySelector(".sd-summary-content").childNodes,
      );
      answer.append(explanation);

      const radio = make("input", { type: "radio", name: `quiz-${number}`, autocomplete: "off" });
      const words = make("span", {}, ...choice.querySelector(".sd-summary-text").childNodes);
      explanation.dataset.choice = words.textContent.trim().split(/\s/)[0]; // "a)", for print, which shows them all
      const label = make("label", {}, radio, words);
      radio.addEventListener("change", () => {
        for (const other of answer.children) other.hidden = other !== explanation;
        for (const other of group.querySelectorAll("label")) other.className = "";
        label.className = explanation.className;
      });
      group.append(label);
    }
    group.append(answer);
    question.replaceWith(group);
  });
})();
