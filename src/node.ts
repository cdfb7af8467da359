/** The entry for Node: the same names, with the engine in a worker thread and checkpoints in a folder. */
import { ServiceClient as AnyServiceClient, type ServiceClientOptions } from './index';
import { NODE } from './node/host';

export * from './index';

/** Starts nothing yet: the engine starts at the first call, the session with the first client. */
export class ServiceClient extends AnyServiceClient {
  constructor(options: ServiceClientOptions = {}) {
    super(options, NODE);
  }
}
