// Chapter 5: a slider shifts the voice of a clip against its lips; the correlation curve moves along, and both
// can be played.
"use strict";

document.querySelectorAll("[data-interactive=voice]").forEach(root => {
  const data = JSON.parse(root.querySelector("script").textContent);
  const out = name => root.querySelector(`[data-out="${name}"]`);
  const part = name => root.querySelector(`[data-part="${name}"]`);
  const [slider, button] = ["shift", "play"].map(name => root.querySelector(`[data-in="${name}"]`));
  const video = root.querySelector("video");
  const middle = (data.shifts.length - 1) / 2;
  const shift = () => data.shifts[slider.value];
  const signed = value => value.toFixed(2).replace("-0.00", "0.00").replace("-", "−"); // as in interactive.py

  const place = (lag, value) => {
    const { left, top, width, height, x, y } = data.frame;
    return [left + (width * (lag - x[0])) / (x[1] - x[0]), top + (height * (y[1] - value)) / (y[1] - y[0])];
  };
  const move = (name, lag, value) =>
    part(name).setAttribute("transform", `translate(${place(lag, value).join(" ")})`);

  function show() {
    const curve = data.curves[slider.value];
    const peak = curve.indexOf(Math.max(...curve));
    const points = curve.map((value, number) => place(data.shifts[number], value).join(" "));
    part("curve").firstElementChild.setAttribute("d", "M" + points.join("L"));
    move("peak", data.shifts[peak], curve[peak]);
    move("zero", 0, curve[middle]);
    const words = {
      shift: `${signed(shift())} s`,
      seconds: `${signed(shift())} s`,
      lag: `${signed(data.shifts[peak])} s`,
      height: signed(curve[peak]),
      "at-zero": signed(curve[middle]),
    };
    for (const [name, text] of Object.entries(words)) out(name).textContent = text;
    slider.setAttribute("aria-valuetext", words.shift);
  }

  // The sound is decoded at the first press, since browsers allow none before.
  let context, sound, source, playing = false;

  async function prepare() {
    context = new AudioContext();
    const bytes = Uint8Array.from(atob(data.wave), letter => letter.charCodeAt(0));
    sound = await context.decodeAudioData(bytes.buffer);
  }

  function silence() {
    source?.stop();
    source = undefined;
  }

  // A looped sound that begins elsewhere is the sound rolled in time, as the chapter shifts it.
  function speak() {
    silence();
    source = new AudioBufferSourceNode(context, { buffer: sound, loop: true });
    source.connect(context.destination);
    const heard = video.currentTime + (context.outputLatency || 0) - shift();
    source.start(0, ((heard % sound.duration) + sound.duration) % sound.duration);
  }

  function stop() {
    playing = false;
    video.pause();
    silence();
    button.textContent = "Play";
  }

  async function play() {
    playing = true;
    button.textContent = "Stop";
    if (!sound) await prepare();
    await context.resume();
    if (!playing) return; // stopped meanwhile
    video.currentTime = 0;
    await video.play();
    speak();
  }

  button.addEventListener("click", () => (playing ? stop() : play().catch(stop)));
  video.addEventListener("ended", stop);
  slider.addEventListener("input", () => {
    show();
    if (source) speak();
  });
  root.querySelector(".avff-controls").hidden = false;
  show();
});
