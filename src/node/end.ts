/** What the engine's thread is told when it is to end. */
export const END = 'webtinker:end';
