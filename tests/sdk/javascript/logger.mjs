// The SDK's log goes to standard error: standard output is the program's answer to the test.
const write = (message, ...rest) => console.error(message, ...rest);

export const logger = { service: { error: write, warn: write, info: write, verbose: write, debug: write } };
