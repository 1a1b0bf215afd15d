/** Where to begin: the run's own starts, and pictures or short videos that somebody brings. */

export class Gallery {
  /**
   * @param parts {root, own, file, note, error, drop, stage} elements. @param about what the server offers.
   * @param begin (start) => plays from it.
   */
  constructor(parts, about, begin) {
    Object.assign(this, parts);
    Object.assign(this, { about, begin });
    this.inLink = new Map(); // uploads whose picture fits into a link: id -> is one frame
    about.starts.forEach(({ label }, index) => this.root.append(this.#thumb({ kind: "gallery", index }, label, `/api/starts/${index}.png`)));
    this.note.textContent = `Choose, paste or drop an image or a short video, up to ${Math.round(about.limits.upload_bytes / 2 ** 20)} MB.`;
    this.#listen();
  }

  /** Mark where the game that is played began. */
  mark(start) {
    const key = keyOf(start);
    this.root.querySelectorAll(".thumb").forEach((thumb) => thumb.setAttribute("aria-pressed", String(thumb.dataset.start === key)));
  }

  /** Whether a link can carry this start: a video is more than the one picture that a link holds. */
  isLinkable(start) {
    return start.kind !== "upload" || this.inLink.get(start.id) === true;
  }

  #thumb(start, label, source) {
    const thumb = document.createElement("button");
    const image = new Image();
    thumb.type = "button";
    thumb.className = "thumb";
    thumb.dataset.start = keyOf(start);
    thumb.title = label;
    thumb.setAttribute("aria-label", `Begin from ${label}`);
    thumb.setAttribute("aria-pressed", "false");
    Object.assign(image, { alt: "", loading: "lazy", decoding: "async", src: source });
    thumb.append(image);
    thumb.addEventListener("click", (event) => {
      // A mouse that chose gives the keys back to the game; a keyboard stays where it is.
      if (event.detail) thumb.blur();
      this.begin(start);
    });
    return thumb;
  }

  #listen() {
    this.own.addEventListener("click", () => this.file.click());
    this.file.addEventListener("change", () => {
      if (this.file.files.length) this.bring(this.file.files[0]);
      this.file.value = "";
    });
    addEventListener("paste", (event) => {
      const [file] = event.clipboardData?.files ?? [];
      if (!file) return;
      event.preventDefault();
      this.bring(file);
    });
    this.#listenDrops();
  }

  #listenDrops() {
    let depth = 0;
    const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
    const show = (isOver) => {
      this.drop.hidden = !isOver;
      if (!isOver) depth = 0;
    };
    addEventListener("dragenter", (event) => {
      if (!hasFiles(event)) return;
      depth += 1;
      show(true);
    });
    addEventListener("dragleave", (event) => hasFiles(event) && --depth <= 0 && show(false));
    addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
    addEventListener("drop", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      show(false);
      if (event.dataTransfer.files.length) this.bring(event.dataTransfer.files[0]);
    });
  }

  /** Upload a file and begin from it; what is wrong with it is said beside the gallery. */
  async bring(file) {
    const most = this.about.limits.upload_bytes;
    if (file.size > most) return this.#complain(`${file.name} has ${megabytes(file.size)} MB; at most ${megabytes(most)} are taken.`);
    this.#complain(null);
    this.own.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch("/api/starts", { method: "POST", body: file });
      const told = await answer.json();
      if (!answer.ok) return this.#complain(told.error);
      this.#add(told, file);
    } catch {
      this.#complain(`${file.name} could not be sent: the server does not answer.`);
    } finally {
      this.own.removeAttribute("aria-busy");
    }
  }

  #add({ id, label }, file) {
    const start = { kind: "upload", id };
    this.inLink.set(id, /^image\/(png|jpeg|webp|bmp)$/.test(file.type));
    if (!this.root.querySelector(`[data-start="${keyOf(start)}"]`)) {
      this.own.after(this.#thumb(start, label, `/api/uploads/${id}.png`));
    }
    this.begin(start);
  }

  #complain(text) {
    this.error.hidden = !text;
    this.error.textContent = text ?? "";
  }
}

function keyOf(start) {
  return start ? `${start.kind}-${start.index ?? start.id ?? start.level ?? ""}` : "";
}

function megabytes(bytes) {
  return (bytes / 2 ** 20).toFixed(bytes < 2 ** 20 ? 1 : 0);
}
