// A browser starts no worker from a folder (file:), so the search runs in a hidden frame there.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(address) {
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.srcdoc = "<body></body>";
      this.started = new Promise((resolve) => {
        this.frame.onload = () => {
          const scope = this.frame.contentWindow;
          scope.postMessage = (data) => this.tell(this, data);
          const script = scope.document.createElement("script");
          script.src = address;
          script.onload = () => resolve(scope);
          scope.document.body.append(script);
        };
      });
      document.body.append(this.frame);
    }
    postMessage(data) {
      this.started.then((scope) => this.tell(scope, data));
    }
    tell(hearer, data) {
      const copy = structuredClone(data); // neither side may see what the other changes
      setTimeout(() => hearer.onmessage?.({ data: copy }));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
