export function findBrowser(): string;
export function browserArgs(): string[];
