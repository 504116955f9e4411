// Files chosen or dropped go to the page's own server in one request; nothing else leaves the browser.
(function () {
  "use strict";

  const set = (values) => {
    for (const [name, value] of Object.entries(values)) window.trame.state.set(name, value);
  };

  function send(files) {
    const list = Array.from(files).filter((file) => file.name && !file.name.startsWith("."));
    if (!list.length) return;
    const state = window.trame.state.state;
    if (state.busy) return;
    const total = list.reduce((sum, file) => sum + file.size, 0);
    if (total > state.limit_bytes || list.length > state.limit_files) {
      set({ problem: `${list.length} files of ${Math.ceil(total / 1048576)} MB are more than is taken at once ` +
        `(${Math.floor(state.limit_bytes / 1048576)} MB, ${state.limit_files} files); nothing was sent.` });
      return;
    }
    const form = new FormData();
    list.forEach((file) => form.append("file", file, file.name));
    const request = new XMLHttpRequest();
    request.open("POST", "/upload");
    request.upload.onprogress = (event) => {
      if (event.lengthComputable) set({ progress: Math.round((100 * event.loaded) / event.total) });
    };
    request.onerror = () => set({ busy: "", problem: "The upload was cut off or refused; nothing was kept." });
    request.onload = () => {
      if (request.status !== 200) set({ busy: "", problem: request.responseText || `Refused (${request.status}).` });
    };
    set({ busy: "upload", problem: "", progress: 0, progress_text: "Receiving files" });
    request.send(form);
  }

  async function filesOf(entry) {
    if (entry.isFile) return [await new Promise((done, failed) => entry.file(done, failed))];
    const reader = entry.createReader();
    const found = [];
    for (;;) {
      // A folder is listed in portions.
      const some = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!some.length) return found;
      for (const inner of some) found.push(...(await filesOf(inner)));
    }
  }

  async function dropped(event) {
    event.preventDefault();
    const entries = Array.from(event.dataTransfer.items || [])
      .map((item) => item.webkitGetAsEntry && item.webkitGetAsEntry())
      .filter(Boolean);
    const files = [];
    for (const entry of entries) files.push(...(await filesOf(entry)));
    send(files.length ? files : event.dataTransfer.files);
  }

  window.medseg = { send };
  window.addEventListener("dragover", (event) => event.preventDefault());
  window.addEventListener("drop", dropped);
})();
