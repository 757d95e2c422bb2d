// The WebSocket of the live page: opened with a ticket, opened again when it is lost.

import { call } from "/static/page.js";
import { partsOf } from "/static/skeleton.js";

export class Connection {
  // take: {frames(parts), state(state), events(events), lost()}; each is optional.
  constructor(take) {
    this.take = take;
    this.pictures = [];
    this.open();
  }

  async open() {
    try {
      const { ticket } = await call("POST", "/tickets");
      if (this.closed) return;
      this.socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/v1/live/updates?ticket=${ticket}`);
    } catch (error) {
      if (error.status !== 401) this.again(4000);
      return;
    }
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => this.pictures.length && this.want(this.pictures);
    this.socket.onmessage = ({ data }) => {
      if (data instanceof ArrayBuffer) return this.take.frames?.(partsOf(data));
      const said = JSON.parse(data);
      if (said.state) this.take.state?.(said.state);
      if (said.events) this.take.events?.(said.events);
    };
    this.socket.onclose = () => {
      this.take.lost?.();
      this.again(1500);
    };
  }

  again(afterMs) {
    clearTimeout(this.timer);
    if (!this.closed) this.timer = setTimeout(() => this.open(), afterMs);
  }

  want(cameras) {
    this.pictures = cameras;
    if (this.socket && this.socket.readyState === 1) this.socket.send(JSON.stringify({ pictures: cameras }));
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    if (this.socket) {
      this.socket.onclose = this.socket.onmessage = null;
      this.socket.close();
    }
  }
}
